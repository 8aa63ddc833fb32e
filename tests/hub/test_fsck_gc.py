"""`perdure hub fsck` names every damage; `perdure hub gc` removes what nothing refers to, and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hubs import TOKEN, Client, ask, look_after, ndjson

from perdure.hub import gc
from perdure.hub.db import DATABASE, open_database
from perdure.hub.fsck import check_store
from perdure.hub.server import HubServer


def _damage(store: Path) -> list[str]:
    db = open_database(store)
    try:
        return [f"{damage.where}: {damage.what}" for damage in check_store(store, db).damage]
    finally:
        db.close()


def _collect(store: Path, grace: float = 0, *, dry_run: bool = False) -> gc.Collected:
    db = open_database(store)
    try:
        return gc.collect(store, db, grace=grace, dry_run=dry_run)
    finally:
        db.close()


def _upload(url: str, repo: str, data: bytes) -> str:
    oid = hashlib.sha256(data).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    wanted = ask(url, "POST", f"/{repo}.git/info/lfs/objects/batch", body).json()["objects"][0]
    if "actions" in wanted:
        href = wanted["actions"]["upload"]["href"].removeprefix(url)
        assert ask(url, "PUT", href, data, token=None).status == 200
    return oid


def _commit(url: str, repo: str, *entries: tuple[str, dict[str, Any]], query: str = "") -> None:
    assert ask(url, "POST", f"/api/models/{repo}/commit/main{query}", ndjson(*entries)).status == 200


def _large(path: str, oid: str) -> tuple[str, dict[str, Any]]:
    return "lfsFile", {"path": path, "algo": "sha256", "oid": oid}


_UPLOAD = """
api.create_repo(args[0], exist_ok=True)
api.upload_file(path_or_fileobj=args[1], path_in_repo="model.safetensors", repo_id=args[0])
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything in it: Xet and LFS uploads, packs and loose objects, a pull request."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "weights").write_bytes(os.urandom(3_000_000))
    with HubServer(folder / "store", user="me", token=TOKEN) as hub:
        Client(hub.url, TOKEN, folder / "home").run(_UPLOAD, "me/one", folder / "weights")
        oid = _upload(hub.url, "me/one", b"by lfs")
        _commit(hub.url, "me/one", _large("small.bin", oid))
        _commit(hub.url, "me/one", *(("file", {"path": f"d/{i}", "content": f"{i}"}) for i in range(40)))
        _commit(hub.url, "me/one", ("file", {"path": "p", "content": "p"}), query="?create_pr=1")
        assert ask(hub.url, "POST", "/api/models/me/one/tag/main", {"tag": "v1", "message": "one"}).status == 200
        assert ask(hub.url, "POST", "/api/models/me/one/branch/dev", {}).status == 200
        assert _damage(folder / "store") == []  # also while the server runs
    return folder / "store"


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "store"))


def test_a_sound_store_is_found_sound(sound: Path) -> None:
    report = look_after("fsck", sound)
    assert report["ok"] and report["damage"] == []
    assert (report["repositories"], report["blobs"]) == (1, 2) and report["xorbs"] >= 1 and report["objects"] > 40


def _flip(path: Path, at: int = -1) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 2] ^= 1
    path.write_bytes(data)


def _one(store: Path, pattern: str) -> Path:
    return max((path for path in store.glob(pattern) if path.is_file()), key=lambda path: path.stat().st_size)


def _sql(store: Path, statement: str) -> None:
    db = sqlite3.connect(store / DATABASE)
    db.execute(statement)
    db.commit()
    db.close()


_OF_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of a blob": (lambda s: _flip(_one(s, "blobs/*/*/*")), "another sha256"),
    "a shorter blob": (lambda s: os.truncate(_one(s, "blobs/*/*/*"), 5), "another sha256"),
    "a lost blob": (lambda s: _one(s, "blobs/*/*/*").unlink(), "large file with the sha256"),
    "a moved blob": (lambda s: _one(s, "blobs/*/*/*").rename(s / "blobs" / ("0" * 64)), "nobody looks"),
    "a bit of a xorb": (lambda s: _flip(_one(s, "xorbs/*/*/*")), "xorb "),
    "a lost record": (lambda s: _sql(s, "DELETE FROM holdings"), "not recorded"),
    "a row of no repository": (
        lambda s: _sql(s, "INSERT INTO locks VALUES ('x', 'none', 'p', 'me', 0)"),
        "database: a row of locks",
    ),
}

# with any of these nobody can tell what a repository refers to
_OF_REPOSITORIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of a loose object": (lambda s: _flip(_one(s, "repos/*/objects/??/*")), "git object"),
    "a lost loose object": (lambda s: _one(s, "repos/*/objects/??/*").unlink(), "is missing"),
    "a bit of a pack": (lambda s: _flip(_one(s, "repos/*/objects/pack/*.pack")), "git object"),
    "a lost pack": (lambda s: _one(s, "repos/*/objects/pack/*.idx").unlink(), "is missing"),
    "a lost branch main": (lambda s: _one(s, "repos/*/refs/heads/main").unlink(), "branch main is missing"),
    "an empty branch main": (lambda s: os.truncate(_one(s, "repos/*/refs/heads/main"), 0), "branch main is missing"),
    "an empty branch": (lambda s: os.truncate(_one(s, "repos/*/refs/heads/dev"), 0), "heads/dev is unreadable"),
    "half a branch": (lambda s: os.truncate(_one(s, "repos/*/refs/heads/dev"), 20), "is missing"),
    "a wrong tag": (lambda s: _one(s, "repos/*/refs/tags/v1").write_text("1" * 40), "git object " + "1" * 40),
    "a lost pull request": (lambda s: _one(s, "repos/*/refs/pr/1").unlink(), "pull request 1"),
    "a lost repository": (lambda s: shutil.rmtree(next(s.glob("repos/*.git"))), "folder repos/"),
    "an emptied repository": (lambda s: shutil.rmtree(next(s.glob("repos/*.git/objects"))), "no git repository"),
}

_DAMAGES = _OF_FILES | _OF_REPOSITORIES


@pytest.mark.parametrize("name", _DAMAGES)
def test_damage_is_named(store: Path, name: str) -> None:
    damage, said = _DAMAGES[name]
    damage(store)
    found = _damage(store)
    assert any(said in line for line in found), found
    assert not any("Error(" in line or "b'" in line for line in found), found


@pytest.mark.parametrize("name", _DAMAGES)
def test_of_a_damaged_store_nothing_is_removed(store: Path, name: str) -> None:
    _DAMAGES[name][0](store)
    before = {path: path.stat().st_size for path in store.rglob("*") if path.is_file()}
    if name in _OF_REPOSITORIES:
        said = look_after("gc", store, "--grace", "0", code=1)["error"]
        assert "me/one is damaged" in said["message"] and "perdure hub fsck" in said["hint"]
    else:
        collected = _collect(store)
        assert (collected.blobs, collected.xorbs, collected.repositories, collected.objects) == ([], [], [], 0)
    assert {path: path.stat().st_size for path in store.rglob("*") if path.is_file()} == before


def test_the_command_says_what_is_wrong_with_code_1(store: Path) -> None:
    blob = _one(store, "blobs/*/*/*")
    _flip(blob)
    found = look_after("fsck", store, code=1)["damage"]
    assert [one["where"] for one in found] == [f"blob {blob.name}", "model me/one"]
    assert str(blob) in found[0]["what"] and "'model.safetensors'" in found[1]["what"]
    assert "no hub's folder" in look_after("fsck", store / "blobs", code=2)["error"]["message"]


@pytest.mark.parametrize("xet", [True, False])
def test_what_is_damaged_is_mended_by_the_next_push(store: Path, sound: Path, tmp_path: Path, xet: bool) -> None:
    weights = sound.parent / "weights"
    blob, xorb = _one(store, "blobs/*/*/*"), _one(store, "xorbs/*/*/*")
    with HubServer(store, user="me", token=TOKEN) as hub:
        client = Client(hub.url, TOKEN, tmp_path / "home", xet=xet)
        client.run(_UPLOAD, "me/two", weights)  # it remembers what it sent to this address
        _flip(blob)
        _flip(xorb)
        assert "running" in look_after("fsck", store, "--quarantine", code=2)["error"]["message"]
    report = look_after("fsck", store, "--quarantine", code=1)
    assert [(store / name).name for name in report["quarantined"]] == [blob.name, xorb.name]
    assert not blob.exists() and not xorb.exists()
    with HubServer(store, user="me", token=TOKEN, port=int(hub.url.rpartition(":")[2])) as hub:
        client.run(_UPLOAD, "me/one", weights)
        assert ask(hub.url, "GET", "/me/one/resolve/main/model.safetensors").body == weights.read_bytes()
    assert _damage(store) == [] and xorb.exists() == xet


@pytest.mark.parametrize("xet", [True, False])
def test_bytes_that_arrive_replace_those_that_were_cut_off(store: Path, sound: Path, tmp_path: Path, xet: bool) -> None:
    weights = sound.parent / "weights"
    os.truncate(_one(store, "blobs/*/*/*"), 5)
    if xet:
        _flip(_one(store, "xorbs/*/*/*"))
    _sql(store, "DELETE FROM chunks")  # a client that hears of no chunk sends the xorb
    with HubServer(store, user="me", token=TOKEN) as hub:
        Client(hub.url, TOKEN, tmp_path / "home", xet=xet).run(_UPLOAD, "me/one", weights)
        assert ask(hub.url, "GET", "/me/one/resolve/main/model.safetensors").body == weights.read_bytes()
    assert _damage(store) == []


def test_a_sound_store_loses_nothing(store: Path) -> None:
    before = {path: path.stat().st_size for path in store.rglob("*") if path.is_file()}
    collected = look_after("gc", store, "--grace", "0")
    assert (collected["blobs"], collected["xorbs"], collected["objects"]) == ([], [], 0)
    assert {path: path.stat().st_size for path in store.rglob("*") if path.is_file()} == before


def test_what_nothing_refers_to_goes(store: Path, tmp_path: Path) -> None:
    (tmp_path / "more").write_bytes(os.urandom(2_000_000))
    home = tmp_path / "home"
    with HubServer(store, user="me", token=TOKEN) as hub:
        client = Client(hub.url, TOKEN, home)
        client.run(_UPLOAD, "me/gone", tmp_path / "more")
        stray = _upload(hub.url, "me/one", b"never committed")
        _commit(hub.url, "me/one", _large("old.bin", _upload(hub.url, "me/one", b"squashed")), _large("s2", stray))
        _commit(hub.url, "me/one", ("deletedFile", {"path": "old.bin"}), ("deletedFile", {"path": "s2"}))
        _commit(hub.url, "me/one", _large("copy.bin", hashlib.sha256((tmp_path / "more").read_bytes()).hexdigest()))
        assert ask(hub.url, "POST", "/api/models/me/one/super-squash/main", {}).status == 200
        files = {row["path"] for row in ask(hub.url, "GET", "/api/models/me/one/tree/main?recursive=1").json()}
        epoch = ask(hub.url, "GET", "/api/models/me/one/xet-write-token/main").json()["casUrl"][-16:]
        told = look_after("gc", store, "--grace", "0", code=2)["error"]
        assert "running" in told["message"] and "Stop it" in told["hint"]
    sizes = {path.name: path.stat().st_size for path in store.glob("blobs/*/*/*")}
    young = _collect(store, grace=3600)
    assert (young.blobs, young.xorbs, young.objects) == ([], [], 0)
    planned = _collect(store, dry_run=True)
    assert {path.name: path.stat().st_size for path in store.glob("blobs/*/*/*")} == sizes
    done = _collect(store)
    assert planned == done
    large = len(b"squashed") + len(b"never committed")
    assert large + 20 * done.objects < done.size < 10_000  # an object has some dozens of bytes
    assert sorted(sizes[oid] for oid in done.blobs) == [len(b"squashed"), len(b"never committed")]
    assert done.objects > 5 and done.xorbs == []
    assert _damage(store) == []
    with HubServer(store, user="me", token=TOKEN) as hub:
        assert {r["path"] for r in ask(hub.url, "GET", "/api/models/me/one/tree/main?recursive=1").json()} == files
        assert ask(hub.url, "GET", "/me/one/resolve/main/copy.bin").body == (tmp_path / "more").read_bytes()
        assert ask(hub.url, "GET", "/me/one/resolve/v1/small.bin").body == b"by lfs"
        for name in ("one", "gone"):
            assert ask(hub.url, "DELETE", "/api/repos/delete", {"name": name, "organization": "me"}).status == 200
    young = _collect(store, grace=3600)
    assert (young.blobs, young.xorbs) == ([], [])
    done = _collect(store)
    assert len(done.blobs) == 3 and done.xorbs and not list(store.glob("blobs/*/*/*"))
    assert not list(store.glob("xorbs/*/*/*")) and _damage(store) == []
    with HubServer(store, user="me", token=TOKEN) as hub:
        client = Client(hub.url, TOKEN, home)  # it remembers what it sent, to another address
        client.run(_UPLOAD, "me/gone", tmp_path / "more")
        now = ask(hub.url, "GET", "/api/models/me/gone/xet-write-token/main").json()["casUrl"][-16:]
        assert now != epoch
        assert ask(hub.url, "GET", "/me/gone/resolve/main/model.safetensors").body == (tmp_path / "more").read_bytes()
    assert _damage(store) == []


def test_repositories_newer_than_the_database_stay(store: Path, tmp_path: Path) -> None:
    older = shutil.copy(store / DATABASE, tmp_path)
    with HubServer(store, user="me", token=TOKEN) as hub:
        assert ask(hub.url, "POST", "/api/repos/create", {"name": "two"}).status == 200
        _commit(hub.url, "me/two", _large("new.bin", _upload(hub.url, "me/two", b"came since")))
    newer = shutil.copy(store / DATABASE, tmp_path / "newer")
    shutil.copy(older, store / DATABASE)
    before = {path for path in store.glob("[br]*/**/*") if path.is_file()}
    refused = look_after("gc", store, "--grace", "0", code=1)["error"]
    assert "does not know 1 of the repositories" in refused["message"]
    assert f"perdure hub gc --dir {store} --remove-orphans" in refused["hint"]
    assert {path for path in store.glob("[br]*/**/*") if path.is_file()} == before
    orphans = look_after("gc", store, "--grace", "0", "--dry-run", "--remove-orphans")
    assert len(orphans["repositories"]) == len(orphans["blobs"]) == 1
    shutil.copy(newer, store / DATABASE)
    assert _damage(store) == []
    shutil.copy(older, store / DATABASE)
    assert look_after("gc", store, "--grace", "0", "--remove-orphans") == orphans | {"dry_run": False}
    assert len(list(store.glob("repos/*.git"))) == 1 and _damage(store) == []


def test_what_was_promised_a_moment_ago_stays(store: Path) -> None:
    with HubServer(store, user="me", token=TOKEN) as hub:
        oid = _upload(hub.url, "me/one", b"an old upload")
        old = time.time() - 7200
        path = next(store.glob(f"blobs/*/*/{oid}"))
        os.utime(path, (old, old))
        _upload(hub.url, "me/one", b"an old upload")  # a client is told again that it is there
    assert _collect(store, grace=3600).blobs == []
    os.utime(path, (old, old))
    assert _collect(store, grace=3600).blobs == [oid]


def test_xorbs_go_though_what_was_made_of_them_went_before(store: Path) -> None:
    with HubServer(store, user="me", token=TOKEN) as hub:
        assert ask(hub.url, "DELETE", "/api/repos/delete", {"name": "one", "organization": "me"}).status == 200
    for path in store.glob("blobs/*/*/*"):  # as a kill between the two leaves it
        path.unlink()
    assert _collect(store).xorbs and not list(store.glob("xorbs/*/*/*"))


class Killed(BaseException):
    """Stands for a kill."""


def test_a_kill_at_any_removal_leaves_a_sound_store(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(sound, tmp_path / "store"))
    with HubServer(store, user="me", token=TOKEN) as hub:
        _commit(hub.url, "me/one", _large("x.bin", _upload(hub.url, "me/one", b"x")))
        assert ask(hub.url, "POST", "/api/models/me/one/super-squash/main", {}).status == 200
    _sql(store, "DELETE FROM discussion_events")
    _sql(store, "DELETE FROM discussions")
    next(store.glob("repos/*/refs/pr/1")).unlink()
    next(store.glob("repos/*/refs/tags/v1")).unlink()
    unlink = os.unlink
    for kill_at in _counting():
        copy = Path(shutil.copytree(store, tmp_path / f"copy-{kill_at}"))
        calls = 0

        def counted(path: Any, *, dir_fd: int | None = None, limit: int = kill_at) -> None:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise Killed
            unlink(path, dir_fd=dir_fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", counted)
            try:
                _collect(copy)
                finished = True
            except Killed:
                finished = False
        assert _damage(copy) == [], f"killed at removal {kill_at}"
        _collect(copy)
        assert _damage(copy) == []
        assert len(list(copy.glob("repos/*/objects/pack/*.pack"))) <= 1
        shutil.rmtree(copy)
        if finished:
            return
    pytest.fail("it never ended")


def _counting() -> Iterator[int]:
    yield from range(0, 12)
    yield from range(12, 400, 23)
