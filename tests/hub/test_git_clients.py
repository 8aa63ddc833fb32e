"""Clone, fetch and push with the real git and git-lfs."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
from pathlib import Path

import pytest
from gits import Git, needs_git, needs_lfs
from hubs import TOKEN, Client, ask, ndjson

from perdure.hub import limits
from perdure.hub.accounts import Accounts
from perdure.hub.db import open_database
from perdure.hub.git_wire import FLUSH, ZERO, packet
from perdure.hub.server import HubServer

OTHER = "token-of-somebody-else"

pytestmark = needs_git


@pytest.fixture
def git(server: HubServer, tmp_path: Path) -> Git:
    return Git(server.url, tmp_path / "git")


def _make(server: HubServer, name: str, kind: str = "model", private: bool = True) -> str:
    body = {"name": name, "type": kind, "private": private}
    assert ask(server.url, "POST", "/api/repos/create", body).status == 200
    return f"{'datasets/' if kind == 'dataset' else ''}me/{name}"


def _head(server: HubServer, repo: str, revision: str = "main") -> str:
    path = repo if repo.startswith("datasets/") else f"models/{repo}"
    return str(ask(server.url, "GET", f"/api/{path}/revision/{revision.replace('/', '%2F')}").json()["sha"])


@pytest.mark.parametrize("kind", ["model", "dataset"])
@pytest.mark.parametrize("suffix", ["", ".git"])
@pytest.mark.parametrize("protocol", ["0", "2"])
def test_clone_push_and_fetch(server: HubServer, git: Git, kind: str, suffix: str, protocol: str) -> None:
    repo = _make(server, f"round-{kind}{suffix.replace('.', '-')}-{protocol}", kind)
    git.run("config", "--global", "protocol.version", protocol)
    git.clone(repo + suffix)
    pushed = git.commit("clone", "by git", README__md="# Hello\n", config__json="{}")
    git.run("push", "-q", "origin", "main", at="clone")
    assert _head(server, repo) == pushed
    prefix = "" if kind == "model" else "datasets/"
    assert (
        ask(server.url, "GET", f"/{prefix}{repo.removeprefix('datasets/')}/resolve/main/README.md").body == b"# Hello\n"
    )
    commits = ask(server.url, "GET", f"/api/{kind}s/{repo.removeprefix('datasets/')}/commits/main").json()
    assert [commit["title"] for commit in commits] == ["by git", "initial commit"]
    api = ndjson(("file", {"path": "b.txt", "content": "from the API"}))
    address = f"/api/{kind}s/{repo.removeprefix('datasets/')}/commit/main"
    made = ask(server.url, "POST", address, api).json()["commitOid"]
    git.run("pull", "-q", at="clone")
    assert git.run("rev-parse", "HEAD", at="clone").strip() == made
    assert (git.folder / "clone/b.txt").read_text() == "from the API"
    git.run("fsck", "--strict", "--full", at="clone")


def test_branches_tags_and_force(server: HubServer, git: Git) -> None:
    repo = _make(server, "refs")
    git.clone(repo)
    first = git.commit("clone", a="1")
    git.run("tag", "-a", "v1", "-m", "the first", at="clone")
    git.run("push", "-q", "origin", "main", "main:exp/one", "v1", at="clone")
    listed = ask(server.url, "GET", f"/api/models/{repo}/refs").json()
    assert {(ref["name"], ref["targetCommit"]) for ref in listed["branches"] + listed["tags"]} == {
        ("main", first), ("exp/one", first), ("v1", first),
    }  # fmt: skip
    second = git.commit("clone", "other history", a="2")
    git.run("reset", "-q", "--hard", "HEAD~2", at="clone")
    third = git.commit("clone", "rewritten", a="3")
    assert "non-fast-forward" in git.fail("push", "origin", "main", at="clone")
    git.run("push", "-q", "--force", "origin", "main", ":exp/one", at="clone")
    assert _head(server, repo) == third != second
    assert [b["name"] for b in ask(server.url, "GET", f"/api/models/{repo}/refs").json()["branches"]] == ["main"]
    assert "cannot be deleted" in git.fail("push", "origin", ":main", at="clone")
    assert "only branches, tags" in git.fail("push", "origin", "main:refs/notes/x", at="clone")
    assert "folder of refs" in git.fail("push", "origin", "main:refs/heads/main/sub", at="clone")
    git.run("fetch", "-q", "origin", first, at="clone")  # replaced, and still to be had by its id


def test_an_atomic_push_is_all_or_nothing(server: HubServer, git: Git) -> None:
    repo = _make(server, "atomic")
    git.clone(repo)
    before = _head(server, repo)
    git.commit("clone", a="1")
    git.fail("push", "--atomic", "origin", "main", "main:refs/notes/x", at="clone")
    assert _head(server, repo) == before
    git.fail("push", "origin", "main", "main:refs/notes/x", at="clone")
    assert _head(server, repo) == git.run("rev-parse", "HEAD", at="clone").strip()


def test_shallow_and_partial_clones(server: HubServer, git: Git) -> None:
    repo = _make(server, "shallow")
    git.clone(repo, into="full")
    for i in range(5):
        last = git.commit("full", f"number {i}", a=str(i))
    git.run("push", "-q", at="full")
    git.clone(repo, "--depth", "2", into="short")
    assert git.run("rev-list", "--count", "HEAD", at="short").strip() == "2"
    pushed = git.commit("short", "from a shallow clone", b="b")
    git.run("push", "-q", at="short")
    assert _head(server, repo) == pushed
    git.run("fetch", "-q", "--unshallow", at="short")
    assert git.run("rev-list", "--count", "HEAD", at="short").strip() == "7"
    git.clone(repo, "--filter=blob:none", "--no-checkout", into="lazy")
    assert git.run("show", f"{last}:a", at="lazy") == "4"


def test_two_pushers_one_wins_and_the_other_may_retry(server: HubServer, git: Git) -> None:
    repo = _make(server, "race")
    for name in ("one", "two"):
        git.clone(repo, into=name)
        git.commit(name, f"by {name}", **{name: "x"})
    racing = [git.start("push", "origin", "main", at=name) for name in ("one", "two")]
    told = [process.communicate(timeout=60)[1] for process in racing]
    codes = [process.returncode for process in racing]
    assert sorted(codes) == [0, 1], told
    loser = "one" if codes[0] else "two"
    assert any(word in "".join(told) for word in ("fetch first", "moved since")), told
    git.run("pull", "-q", "--rebase", at=loser)
    git.run("push", "-q", at=loser)
    titles = {row["title"] for row in ask(server.url, "GET", f"/api/models/{repo}/commits/main").json()}
    assert titles == {"by one", "by two", "initial commit"}


def test_who_may_do_what(server: HubServer, git: Git, tmp_path: Path) -> None:
    repo = _make(server, "mine")
    public = _make(server, "open", private=False)
    nobody = Git(server.url, tmp_path / "nobody", token=None)
    assert "could not read Username" in nobody.fail("clone", nobody.address(repo))  # a 401: git would ask
    wrong = Git(server.url, tmp_path / "wrong", token="not-a-token-of-anybody")
    assert "Authentication failed" in wrong.fail("clone", wrong.address(repo))
    nobody.clone(public)
    nobody.commit("clone", a="1")
    assert "could not read Username" in nobody.fail("push", at="clone")
    # why it was refused is what git shows, and git-lfs
    assert ask(server.url, "PUT", f"/api/models/{public}/settings", {"gated": "manual"}).status == 200
    db = open_database(server._folder)
    user, _ = Accounts(db).add_user_with_token("you", OTHER, admin=False, label="test")
    Accounts(db).add_token(user, OTHER, role="read", label="test")
    db.close()
    you = Git(server.url, tmp_path / "you", token=OTHER)
    assert f"remote: The files of {public} are for its owner's people only." in you.fail("clone", you.address(public))
    ask(server.url, "PUT", f"/api/models/{public}/settings", {"gated": False})
    you.clone(public)
    you.commit("clone", a="1")
    assert "remote: This token may only read; use one that may write." in you.fail("push", at="clone")
    locked = ask(server.url, "POST", f"/{public}.git/info/lfs/locks", {"path": "a"}, token=OTHER)
    assert (locked.status, locked.json()["message"]) == (403, "This token may only read; use one that may write.")
    bearer = git.run("-c", f"http.extraHeader=Authorization: Bearer {TOKEN}", "ls-remote", f"{server.url}/{repo}")
    assert "refs/heads/main" in bearer
    assert "not found" in git.fail("clone", git.address("me/absent"))
    moved = {"fromRepo": repo, "toRepo": "me/renamed", "type": "model"}
    assert ask(server.url, "POST", "/api/repos/move", moved).status == 200
    git.clone(repo, into="by-its-old-name")


@needs_lfs
def test_large_files_travel_by_lfs(server: HubServer, git: Git, client: Client) -> None:
    repo = _make(server, "weights")
    git.clone(repo, lfs=True)
    data = os.urandom(3_000_000)
    git.commit("clone", "weights", model__safetensors=data, small__txt="small")
    git.run("push", "-q", at="clone")
    oid = hashlib.sha256(data).hexdigest()
    row = ask(server.url, "GET", f"/api/models/{repo}/tree/main").json()
    assert next(r["lfs"]["oid"] for r in row if r["path"] == "model.safetensors") == oid
    assert ask(server.url, "GET", f"/{repo}/resolve/main/model.safetensors").body == data
    fetched = client.run("print(json.dumps(hf_hub_download(args[0], 'model.safetensors')))", repo)
    assert Path(fetched).read_bytes() == data
    git.clone(repo, into="again", lfs=True)
    assert (git.folder / "again/model.safetensors").read_bytes() == data
    client.run(
        "api.upload_file(path_or_fileobj=Path(args[1]).read_bytes()[::-1], path_in_repo='two.bin', repo_id=args[0])",
        repo,
        git.folder / "again/model.safetensors",
    )
    git.run("pull", "-q", at="again")
    assert (git.folder / "again/two.bin").read_bytes() == data[::-1]


@needs_lfs
def test_a_pointer_without_its_bytes_is_refused(server: HubServer, git: Git) -> None:
    repo = _make(server, "hollow")
    git.clone(repo, lfs=True)
    before = _head(server, repo)
    git.commit("clone", model__safetensors=os.urandom(1000))
    (git.folder / "clone/.git/hooks/pre-push").unlink()
    said = git.fail("push", at="clone")
    assert "was never uploaded" in said and "git lfs push --all" in said
    assert _head(server, repo) == before
    git.run("lfs", "push", "--all", "origin", at="clone")
    git.run("push", "-q", at="clone")
    assert _head(server, repo) != before


@needs_lfs
def test_locks(server: HubServer, git: Git) -> None:
    repo = _make(server, "locked")
    git.clone(repo, lfs=True)
    git.commit("clone", model__bin=b"x" * 100)
    git.run("push", "-q", at="clone")
    git.run("lfs", "lock", "model.bin", at="clone")
    assert "is locked already" in git.fail("lfs", "lock", "model.bin", at="clone")
    assert "model.bin" in git.run("lfs", "locks", at="clone")
    assert "model.bin" in git.run("lfs", "locks", "--verify", at="clone")
    git.run("lfs", "unlock", "model.bin", at="clone")
    assert git.run("lfs", "locks", at="clone") == ""
    base = f"/{repo}.git/info/lfs/locks"
    ids = [ask(server.url, "POST", base, {"path": f"f{i}"}).json()["lock"]["id"] for i in range(3)]
    page = ask(server.url, "GET", f"{base}?limit=2").json()
    rest = ask(server.url, "GET", f"{base}?limit=2&cursor={page['next_cursor']}").json()
    assert [lock["id"] for lock in page["locks"] + rest["locks"]] == ids
    assert ask(server.url, "POST", f"{base}/{'0' * 24}/unlock", {}).status == 404


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"big": b"x" * 11_000_000}, "git-lfs"),
        ({"back\\slash": b"x"}, "backslashes"),
        ({"/".join("d" * 70): b"x"}, "deeper than"),
    ],
)
def test_what_the_hub_cannot_serve_is_refused(server: HubServer, git: Git, files: dict[str, bytes], why: str) -> None:
    repo = _make(server, "refused-" + hashlib.sha1(why.encode()).hexdigest()[:8])
    git.clone(repo)
    before = _head(server, repo)
    git.commit("clone", **files)
    assert why in git.fail("push", at="clone")
    assert _head(server, repo) == before


def test_a_tree_that_names_itself_a_billion_times_is_refused(server: HubServer, git: Git) -> None:
    repo = _make(server, "bomb")
    git.clone(repo)
    (git.folder / "clone/leaf").write_text("x")
    blob = git.run("hash-object", "-w", "leaf", at="clone").strip()
    entry = f"100644 blob {blob}"
    for _ in range(9):
        lines = "".join(f"{entry}\tn{i}\n" for i in range(10))
        (git.folder / "tree").write_text(lines)
        tree = git.run("-C", "clone", "-c", "alias.mk=!git mktree < ../tree", "mk").strip()
        entry = f"040000 tree {tree}"
    commit = git.run("commit-tree", tree, "-m", "bomb", at="clone").strip()
    assert "more than" in git.fail("push", "origin", f"{commit}:refs/heads/bomb", at="clone")


def test_more_folders_than_are_looked_into_are_refused(
    server: HubServer, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GIT_FOLDERS", 5)
    repo = _make(server, "folders")
    git.clone(repo)
    git.commit("clone", **{f"folder{i}/f": str(i) for i in range(6)})
    assert "too many folders" in git.fail("push", at="clone")


def test_a_request_that_unpacks_beyond_its_bound_is_refused(server: HubServer) -> None:
    repo = _make(server, "gzip")
    bomb = gzip.compress(bytes(limits.GIT_NEGOTIATION + 1))
    answer = ask(server.url, "POST", f"/{repo}.git/git-upload-pack", bomb, content_encoding="gzip")
    assert (answer.status, len(bomb) < limits.MIB) == (413, True)
    assert not list((server._folder / "staging").iterdir())


def test_damaged_and_hostile_pushes(server: HubServer) -> None:
    repo = _make(server, "hostile")
    address = f"/{repo}.git/git-receive-pack"
    command = packet(ZERO + b" " + b"1" * 40 + b" refs/heads/x\0report-status") + FLUSH
    for body in (b"garbage", b"00", b"ffff", b"0003", b"zzzz", command[:20], packet(b"no command at all") + FLUSH):
        assert ask(server.url, "POST", address, body).status == 400, body
    for pack in (b"", b"PACK", b"PACK\0\0\0\2\xff\xff\xff\xff" + os.urandom(40)):
        answer = ask(server.url, "POST", address, command + pack)
        assert answer.status == 200 and b"ng refs/heads/x" in answer.body, answer.body
    assert ask(server.url, "POST", address, FLUSH).body == FLUSH
    assert ask(server.url, "POST", address, gzip.compress(FLUSH), content_encoding="gzip").body == FLUSH
    assert ask(server.url, "POST", address, gzip.compress(FLUSH)[:-9], content_encoding="gzip").status == 400
    assert ask(server.url, "POST", address, b"x", content_encoding="br").status == 415
    assert ask(server.url, "GET", f"/{repo}.git/info/refs?service=git-evil").status == 403
    assert ask(server.url, "POST", f"/{repo}/git-upload-pack", b"0000", token=None).status == 401
    basic = base64.b64encode(b"anybody:" + TOKEN.encode()).decode()
    found = ask(
        server.url, "GET", f"/{repo}/info/refs?service=git-upload-pack", token=None, Authorization=f"Basic {basic}"
    )
    assert found.status == 200 and found.body.startswith(b"001e# service=git-upload-pack\n")
    staging = server._folder / "staging"
    assert list(staging.iterdir()) == []


def test_nothing_in_a_repository_is_run(server: HubServer, git: Git, tmp_path: Path) -> None:
    repo = _make(server, "hooks")
    store = next(path for path in (server._folder / "repos").iterdir() if _is(path, server, repo))
    (store / "hooks").mkdir(exist_ok=True)
    for name in ("pre-receive", "update", "post-receive", "reference-transaction"):
        hook = store / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        hook.chmod(0o755)
    git.clone(repo)
    git.commit("clone", a="1")
    git.run("push", "-q", at="clone")
    assert not (tmp_path / "ran").exists()


def _is(path: Path, server: HubServer, repo: str) -> bool:
    return (path / "refs/heads/main").read_text().strip() == _head(server, repo)


def test_without_git_the_hub_says_so(server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repo = _make(server, "no-git")
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = ask(server.url, "GET", f"/{repo}/info/refs?service=git-upload-pack")
    assert answer.status == 501 and b"no git command" in answer.body
