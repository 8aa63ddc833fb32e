"""`perdure hub fsck` and `gc --dry-run` leave every byte of a store, and every file in it, as they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hubs import TOKEN, ask, look_after, serving

from perdure.hub.db import DATABASE
from perdure.hub.schema import MIGRATIONS
from perdure.hub.server import HubServer


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with HubServer(tmp_path / "store", user="me", token=TOKEN) as hub:
        assert ask(hub.url, "POST", "/api/repos/create", {"name": "one"}).status == 200
    return tmp_path / "store"


def _state(store: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in store.rglob("*")}


def test_looking_changes_nothing(store: Path) -> None:
    before = _state(store)
    look_after("fsck", store)
    look_after("gc", store, "--grace", "0", "--dry-run")
    assert _state(store) == before


def test_a_store_of_an_earlier_version_is_only_looked_at(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as old:
        old.executescript(MIGRATIONS[0])
        old.execute("PRAGMA user_version = 1")
        old.execute("INSERT INTO repos VALUES ('r', 'model', 'me', 'lost', 0, 0.0)")
        old.commit()
    before = _state(tmp_path)
    (found,) = look_after("fsck", tmp_path, code=1)["damage"]
    assert "repos/r.git is missing" in found["what"]
    assert _state(tmp_path) == before


def test_the_database_of_a_killed_server_is_read_as_it_left_it(store: Path) -> None:
    with serving(store) as (process, url):
        assert ask(url, "POST", "/api/repos/create", {"name": "two"}).status == 200
        process.kill()
        process.wait(60)
    wal = store / f"{DATABASE}-wal"
    before = wal.read_bytes()
    assert look_after("fsck", store)["repositories"] == 2
    assert wal.read_bytes() == before
