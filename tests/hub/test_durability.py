"""What is acknowledged has been synced: a kill does not show a missing fsync, so the system calls are watched."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gits import Git, needs_git
from hubs import TOKEN, ask, ndjson

from perdure.hub.server import HubServer


class Watch:
    """Every fsync and rename of this process from now on, in order, by path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
        self.store = store
        self.events: list[tuple[str, Path]] = []
        self.before = set(store.rglob("*"))
        fsync = os.fsync

        def watched_fsync(fd: int) -> None:
            fsync(fd)
            self.events.append(("fsync", Path(f"/proc/self/fd/{fd}").readlink()))

        monkeypatch.setattr(os, "fsync", watched_fsync)
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, self._watched_rename(getattr(os, name)))

    def _watched_rename(self, rename: Any) -> Any:
        def watched(source: Any, target: Any, **options: Any) -> None:
            rename(source, target, **options)
            self.events += [("from", Path(os.fsdecode(source))), ("to", Path(os.fsdecode(target)))]

        return watched

    def new(self) -> list[Path]:
        """Everything made since, but for SQLite's files, which are its own affair, and staging, which is nobody's."""
        made = set(self.store.rglob("*")) - self.before
        return sorted(path for path in made if "hub.sqlite3" not in path.name and "staging" not in path.parts)

    def synced_before(self, end: int, path: Path) -> bool:
        """Whether `path` had its bytes synced, and then its name, before event number `end`."""
        events = self.events[:end]
        named = events.index(("to", path)) if ("to", path) in events else 0
        content = events[named - 1][1] if named else path
        bytes_synced = path.is_dir() or ("fsync", content) in events[: named or None]
        return bytes_synced and ("fsync", path.parent) in events[named:]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "store", user="me", token=TOKEN) as running:
        ask(running.url, "POST", "/api/repos/create", {"name": "kept"})
        yield running


@pytest.mark.parametrize("files", [1, 50])
def test_a_commit_moves_the_branch_only_over_synced_objects(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    watch = Watch(monkeypatch, tmp_path / "store")
    operations = [("file", {"path": f"{i}/a.txt", "content": f"text {i}"}) for i in range(files)]
    assert ask(hub.url, "POST", "/api/models/me/kept/commit/main", ndjson(*operations)).status == 200
    branch = next((tmp_path / "store" / "repos").glob("*/refs/heads/main"))
    moved = watch.events.index(("to", branch))
    made = watch.new()
    assert made
    for path in made:
        assert watch.synced_before(moved, path), path
    assert ("fsync", branch.with_name("main.lock")) in watch.events[:moved]
    assert ("fsync", branch.parent) in watch.events[moved:]


def test_an_upload_is_acknowledged_only_when_synced(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"some weights"
    oid = hashlib.sha256(data).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    batch = ask(hub.url, "POST", "/me/kept.git/info/lfs/objects/batch", body).json()
    href = batch["objects"][0]["actions"]["upload"]["href"].removeprefix(hub.url)
    watch = Watch(monkeypatch, tmp_path / "store")
    assert ask(hub.url, "PUT", href, data, token=None).status == 200
    acknowledged = len(watch.events)
    made = watch.new()
    assert made[-1].name == oid
    for path in made:
        assert watch.synced_before(acknowledged, path), path


def test_a_new_repository_is_synced_before_it_is_entered(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch, tmp_path / "store")
    assert ask(hub.url, "POST", "/api/repos/create", {"name": "another"}).status == 200
    repo = next(path for path in watch.new() if path.suffix == ".git")
    named = watch.events.index(("to", repo))
    draft = watch.events[named - 1][1]
    for path in repo.rglob("*"):
        if path.is_file():
            assert ("fsync", draft / path.relative_to(repo)) in watch.events[:named], path
    assert ("fsync", repo.parent) in watch.events[named:]


@needs_git
def test_a_push_by_git_moves_the_branch_only_over_synced_objects(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = Git(hub.url, tmp_path / "git")
    git.clone("me/kept")
    git.commit("clone", a="text")
    watch = Watch(monkeypatch, tmp_path / "store")
    git.run("push", "-q", "origin", "main", "main:new", at="clone")
    acknowledged = len(watch.events)
    moved = min(watch.events.index(("to", path)) for path in (tmp_path / "store").glob("repos/*/refs/heads/*"))
    packs = [path for path in watch.new() if path.suffix in {".pack", ".idx"}]
    assert len(packs) == 2
    for path in packs:
        assert watch.synced_before(moved, path), path
    for path in watch.new():
        assert watch.synced_before(acknowledged, path), path
