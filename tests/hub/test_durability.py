"""What is acknowledged has been synced: a kill does not show a missing fsync, so the system calls are watched."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gits import Git, needs_git
from hubs import TOKEN, Client, ask, ndjson

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

    def unsynced(self) -> list[Path]:
        """What was made, renamed or pointed elsewhere since, and would not survive a power cut now."""
        renamed = {path for kind, path in self.events if kind == "to" and self.store in path.parents and path.exists()}
        return [path for path in sorted({*self.new(), *renamed}) if not self.synced_before(len(self.events), path)]

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


_API = "/api/models/me/kept"
_PULL = f"{_API}/discussions"
_CHANGES: dict[str, list[tuple[str, str, Any]]] = {
    "a branch": [("POST", f"{_API}/branch/dev%2Fone", {})],
    "a tag": [("POST", f"{_API}/tag/main", {"tag": "v1"})],
    "an annotated tag": [("POST", f"{_API}/tag/main", {"tag": "v1", "message": "one"})],
    "a squash": [("POST", f"{_API}/super-squash/main", {})],
    "a draft": [("POST", _PULL, {"title": "a draft", "pullRequest": True})],
    "a proposal": [("POST", f"{_API}/commit/main?create_pr=1", ndjson(("file", {"path": "a", "content": "a"})))],
    "a merge": [
        ("POST", f"{_API}/commit/main?create_pr=1", ndjson(("file", {"path": "a", "content": "a"}))),
        ("POST", f"{_PULL}/1/merge", {}),
    ],
}


@pytest.mark.parametrize("change", _CHANGES)
def test_refs_and_what_they_reach_are_synced_when_a_change_is_acknowledged(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    *before, last = _CHANGES[change]
    for method, path, body in before:
        assert ask(hub.url, method, path, body).status == 200
    watch = Watch(monkeypatch, tmp_path / "store")
    assert ask(hub.url, *last).status == 200
    assert any(kind == "to" and "refs" in path.parts for kind, path in watch.events)
    assert watch.unsynced() == []


@pytest.mark.parametrize("what", ["branch", "tag"])
def test_a_removed_ref_stays_removed(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    assert ask(hub.url, "POST", f"{_API}/branch/x", {}).status == 200
    assert ask(hub.url, "POST", f"{_API}/tag/main", {"tag": "x"}).status == 200
    ref = next((tmp_path / "store" / "repos").glob(f"*/refs/{'heads' if what == 'branch' else 'tags'}/x"))
    watch = Watch(monkeypatch, tmp_path / "store")
    assert ask(hub.url, "DELETE", f"{_API}/{what}/x").status == 200
    folder = ref.parent if ref.parent.exists() else ref.parent.parent  # an empty one goes with its last ref
    assert not ref.exists() and ("fsync", folder) in watch.events


def test_what_xet_clients_send_is_synced_when_it_is_acknowledged(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch, tmp_path / "store")
    Client(hub.url, TOKEN, tmp_path / "home").run(
        "api.upload_file(path_or_fileobj=os.urandom(200_000), path_in_repo='w.bin', repo_id='me/kept')"
    )
    assert {"xorbs", "blobs", "repos"} <= {path.relative_to(watch.store).parts[0] for path in watch.new()}
    assert watch.unsynced() == []


def test_rows_are_synced_when_a_call_that_wrote_them_returns(hub: HubServer) -> None:
    """Moves, settings, discussions, locks and accounts are rows alone; so is that a repository is gone."""
    assert hub._hub is not None
    assert hub._hub.db.rows("PRAGMA synchronous") == [(2,)]  # FULL: with a write-ahead log, at every commit
    assert hub._hub.db.rows("PRAGMA journal_mode") == [("wal",)]
