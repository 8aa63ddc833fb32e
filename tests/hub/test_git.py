"""The repositories on disk are real ones: git itself reads and approves of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from dulwich.objects import Blob, Commit
from hubs import TOKEN, ask, ndjson

from perdure.hub import tree
from perdure.hub.attributes import Attributes, Ignore
from perdure.hub.git import written
from perdure.hub.http import ApiError
from perdure.hub.repos import GitRepos
from perdure.hub.server import HubServer


def _file(path: str, content: str) -> tuple[str, dict[str, str]]:
    return ("file", {"path": path, "content": content})


@pytest.mark.skipif(shutil.which("git") is None, reason="waits for the git command: scripts/install-clients")
def test_git_finds_nothing_wrong_with_what_the_hub_wrote(tmp_path: Path) -> None:
    with HubServer(tmp_path / "store", user="me", token=TOKEN) as hub:
        ask(hub.url, "POST", "/api/repos/create", {"name": "real"})
        url = "/api/models/me/real"
        many = [_file(f"many/{i}.txt", str(i)) for i in range(40)]
        order = [_file(path, path) for path in ("a-b", "a/b", "a0", "ä/ö", "a.b")]  # git sorts a/ after a.b
        for operations in (many, order, [("deletedFolder", {"path": "many"})]):
            assert ask(hub.url, "POST", f"{url}/commit/main", ndjson(*operations)).status == 200
        assert ask(hub.url, "POST", f"{url}/tag/main", {"tag": "v1", "message": "a tag\n\nwith text"}).status == 200
        assert ask(hub.url, "POST", f"{url}/branch/exp%2Fone", {"startingPoint": "v1"}).status == 200
        assert ask(hub.url, "POST", f"{url}/super-squash/exp%2Fone", {"message": "one"}).status == 200
        tag = ask(hub.url, "GET", f"{url}/refs").json()["tags"][0]["targetCommit"]
        listed = {row["path"] for row in ask(hub.url, "GET", f"{url}/tree/main?recursive=1").json()}
    repo = str(next((tmp_path / "store" / "repos").iterdir()))

    def git(*arguments: str) -> str:
        command = ["git", "-c", "core.quotePath=false", "-C", repo, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    git("fsck", "--strict", "--full")
    assert git("rev-parse", "v1^{commit}").strip() == tag
    assert set(git("ls-tree", "-r", "--name-only", "main").splitlines()) == {
        row for row in listed if row not in {"a", "ä"}
    }
    assert git("log", "--format=%s", "exp/one").splitlines() == ["one"]
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", repo, str(clone)], check=True, capture_output=True)
    assert (clone / "ä" / "ö").read_text() == "ä/ö"


@pytest.mark.parametrize(
    ("path", "large"),
    [
        ("model.safetensors", True), ("deep/in/model.safetensors", True), ("saved_model/a/b.txt", True),
        ("saved_model/b.txt", True), ("x.tar.gz", True), ("run.tfevents.1", True), ("config.json", False),
        ("safetensors", False), ("my_saved_model/b.txt", False),
    ],
)  # fmt: skip
def test_the_default_attributes_say_what_is_large(path: str, large: bool) -> None:
    from perdure.hub.attributes import DEFAULT

    assert Attributes(DEFAULT).is_large(path) is large


def test_the_last_matching_attribute_decides() -> None:
    rules = Attributes("# note\n*.bin filter=lfs\nsmall/* -filter\nsmall/big.bin filter=lfs diff=lfs\n\n* text=auto")
    assert [rules.is_large(path) for path in ("a.bin", "small/a.bin", "small/big.bin", "a.txt")] == [
        True,
        False,
        True,
        False,
    ]


def test_ignored_files() -> None:
    rules = Ignore("*.log\n!keep.log\nruns/\n/top.txt\nb/**/c\n")
    ignored = ["x.log", "d/x.log", "runs/a", "d/runs/keep.log", "top.txt", "b/c", "b/x/y/c"]
    kept = ["keep.log", "runs", "d/top.txt", "a.txt", "c"]
    assert [path for path in ignored + kept if rules.ignores(path)] == ignored


@pytest.mark.timeout(30)
def test_hostile_patterns_take_no_time() -> None:
    rules = Attributes("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b filter=lfs\n" + "**/" * 60 + "x filter=lfs")
    assert not rules.is_large("a" * 255)
    assert not rules.is_large("a/" * 60 + "y")


def test_patterns_that_would_take_long_for_so_many_files_are_refused() -> None:
    rules = Ignore("".join("*" + "a" * 200 + f"b{i}\n" for i in range(1000)))
    with pytest.raises(ApiError, match="too many for so many files"):
        for i in range(1000):
            rules.ignores(f"{i}/" + "a" * 200 + "/" + "b" * 200)


def test_folders_that_no_commit_changed_are_not_read(tmp_path: Path) -> None:
    repos = GitRepos(tmp_path, tmp_path)
    repos.create("r", {"top.txt": b"0"}, "me")
    with repos.open("r") as git:

        def commit(**files: str) -> Commit:
            head = git.resolve("main")
            editor = tree.TreeEditor(git, head.tree)
            blobs = {path.replace("__", "/"): Blob.from_string(text.encode()) for path, text in files.items()}
            for path, blob in blobs.items():
                editor.put(path, blob.id)
            root, folders = editor.finish()
            new = git.commit([*map(written, blobs.values()), *folders], root, [head.id], "me", "a commit")
            assert git.move_branch("main", head.id, new)
            return git.resolve("main")

        made = commit(**{f"d{i}__{name}": "1" for i in range(20) for name in ("a", "b")})
        later = commit(d3__b="2")
        for i in range(1, 10):
            head = commit(top=str(i))
        entries = list(tree.walk(git, tree.root(head), recursive=True))
    with repos.open("r") as git:
        last = tree.last_commits(git, head, entries)
        assert len(git.folders) == 12 + 2  # the root of each commit, and d3 before and after
    assert {path for path, commit in last.items() if commit.id == later.id} == {"d3", "d3/b"}
    assert last["d3/a"].id == last["d4"].id == made.id and last["top"].id == head.id
    assert last["top.txt"].message == b"initial commit"
