"""Fixtures of the tests of publishing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure import Outbox
from perdure.hub.accounts import Accounts
from perdure.hub.db import open_database
from perdure.hub.server import HubServer
from publishing import GUEST, READER, Hub, save_folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "out")


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with its administrator `me`, and a user `guest`, who has a token to write and one only to read."""
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(folder, user="me", token="hf_tokenOfMe1234567890") as server:
        db = open_database(folder)
        accounts = Accounts(db)
        guest, _ = accounts.add_user_with_token("guest", GUEST, admin=False, label="test")
        accounts.add_token(guest, READER, role="read", label="test")
        db.close()
        assert server.token is not None
        yield Hub(server.url, server.token, tmp_path_factory.mktemp("home"))


@pytest.fixture
def box(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """A run's outbox whose worker reaches the hub; the token is in no environment."""
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(hub.home))
    return Outbox(tmp_path / "run", token=hub.token)
