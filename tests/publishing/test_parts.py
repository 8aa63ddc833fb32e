"""Pushes that are too large for one commit: several, that readers see as one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from perdure.publishing.parts import Limits, divide
from perdure.publishing.plan import make_plan
from perdure.publishing.staged import move_request
from publishing import Hub, save_folder, weights

PUSH = """
import json, sys
from pathlib import Path
from perdure.errors import HubError
from perdure.publishing import push
from perdure.publishing.once import Attempt
from perdure.publishing.parts import Limits
from perdure.publishing.prepare import prepared
from perdure.publishing.remote import Remote
from perdure.publishing.request import PushRequest
from perdure.publishing.target import Target

def pushed(folder, repo, remote=Remote, **attempt):
    with prepared(Path(folder), verify=True) as selection:
        request = PushRequest(target=Target(repo=repo, endpoint={url!r}), message="Large")
        return push.Push(remote=remote({url!r}), request=request, selection=selection, limits=Limits(operations=3),
                         attempt=Attempt(**attempt)).run()
"""


@given(
    sizes=st.dictionaries(
        st.sampled_from([f"{n}.txt" for n in range(20)] + [f"{n}.safetensors" for n in range(9)]), st.integers(0, 50)
    ),
    gone=st.sets(st.sampled_from([f"model-{n:05}-of-00009.safetensors" for n in range(9)])),
    operations=st.integers(1, 5),
    nbytes=st.integers(50, 120),
)
def test_parts_are_small_enough_and_together_the_plan(
    sizes: dict[str, int], gone: set[str], operations: int, nbytes: int
) -> None:
    plan = make_plan({**sizes, "model.safetensors": 1}, dict.fromkeys(gone, 1), same=(), saved_before=())
    parts = divide(plan, Limits(operations=operations, nbytes=nbytes))
    assert sorted(path for part in parts for path in part.add) == list(plan.send)
    assert sorted(path for part in parts for path in part.delete) == list(plan.delete)
    for part in parts:
        assert 1 <= len(part.add) + len(part.delete) <= operations
        assert sum(sizes[path] for path in part.add if path.endswith(".txt")) <= nbytes


def test_what_fits_is_one_commit() -> None:
    sizes = {f"model-{n:05}-of-01000.safetensors": 5_000_000 for n in range(1000)}
    assert len(divide(make_plan(sizes, {}, same=(), saved_before=()), Limits())) == 1


def shards(folder: Path, count: int, seed: int) -> Path:
    names = [f"model-{n + 1:05}-of-{count:05}.safetensors" for n in range(count)]
    return save_folder(
        folder, {name: weights(seed + n, size=8) for n, name in enumerate(names)} | {"config.json": b"{}"}
    )


def test_a_reader_sees_all_of_the_old_or_all_of_the_new(hub: Hub, tmp_path: Path) -> None:
    old, new = shards(tmp_path / "old", 4, seed=0), shards(tmp_path / "new", 5, seed=50)
    hub.push(old, "me/large")
    before = hub.commits("me/large")
    hub.run(PUSH.format(url=hub.url) + f"""
seen = set()
class Watching(Remote):
    def commit(self, repo, branch, **options):
        made = super().commit(repo, branch, **options)
        seen.add((branch, self.look(repo).branches["main"]))
        return made
receipt = pushed({str(new)!r}, "me/large", Watching, push_id="a1")
assert seen == {{("perdure-staging-a1", {before[0]!r})}}, seen
assert receipt.commit == Remote({hub.url!r}).look("me/large").branches["main"]
again = pushed({str(new)!r}, "me/large", push_id="a1", tried_on={before[0]!r})
assert again.commit == receipt.commit and again.files == receipt.files and again.deleted == receipt.deleted
""")  # fmt: skip
    assert hub.files("me/large") == {path.name for path in new.iterdir()}
    made = hub.ask("/api/models/me/large/commits/main")[: -len(before)]
    assert [commit["title"] for commit in made] == [f"Large ({n} of 4)" for n in (4, 3, 2, 1)]
    assert all("Perdure-Push: a1" in commit["message"] for commit in made)
    assert hub.commits("me/large")[len(made) :] == before
    assert branches(hub, "me/large") == ["main"]


def test_whoever_commits_in_between_wins_and_the_other_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.push(shards(tmp_path / "old", 2, seed=0), "me/large-raced")
    new = shards(tmp_path / "new", 6, seed=50)
    said = hub.run(PUSH.format(url=hub.url) + f"""
class Raced(Remote):
    def move_branch(self, repo, branch, **options):
        self.commit(repo, "main", add={{"NOTES.txt": b"theirs"}}, delete=(), message="Theirs", parent=None)
        super().move_branch(repo, branch, **options)
try:
    pushed({str(new)!r}, "me/large-raced", Raced)
except HubError as error:
    print(error.kind)
""")  # fmt: skip
    assert said == "conflict\n"
    assert "NOTES.txt" in hub.files("me/large-raced") and len(hub.commits("me/large-raced")) == 3
    assert branches(hub, "me/large-raced") == ["main"]


def test_a_large_push_that_was_broken_off_is_made_once_by_the_next_try(hub: Hub, tmp_path: Path) -> None:
    new = shards(tmp_path / "new", 6, seed=9)
    hub.push(shards(tmp_path / "old", 2, seed=0), "me/large-cut")
    base = hub.commits("me/large-cut")[0]
    hub.run(PUSH.format(url=hub.url) + f"""
class Cut(Remote):
    def move_branch(self, *_, **__):
        raise KeyboardInterrupt
    delete_branch = move_branch  # as if killed: nothing is cleared away
try:
    pushed({str(new)!r}, "me/large-cut", Cut, push_id="b2")
except KeyboardInterrupt:
    assert "perdure-staging-b2" in Remote({hub.url!r}).look("me/large-cut").branches
receipt = pushed({str(new)!r}, "me/large-cut", push_id="b2", tried_on={base!r})
assert receipt.changed and len(receipt.deleted) == 2
""")  # fmt: skip
    assert hub.files("me/large-cut") == {path.name for path in new.iterdir()}
    titles = [commit["title"] for commit in hub.ask("/api/models/me/large-cut/commits/main")]
    assert titles[:3] == ["Large (3 of 3)", "Large (2 of 3)", "Large (1 of 3)"] and len(set(titles)) == len(titles)
    assert hub.commits("me/large-cut")[3] == base and branches(hub, "me/large-cut") == ["main"]


def test_what_killed_pushes_left_goes_when_it_is_safe(hub: Hub, tmp_path: Path) -> None:
    first, second = shards(tmp_path / "first", 4, seed=1), shards(tmp_path / "second", 4, seed=2)
    hub.push(shards(tmp_path / "old", 2, seed=0), "me/large-left")
    base = hub.commits("me/large-left")[0]
    hub.run(PUSH.format(url=hub.url) + f"""
from perdure.publishing import staged
class Killed(Remote):
    def move_branch(self, repo, branch, **options):
        if options["old"] == {base!r}:
            super().move_branch(repo, branch, **options)
        raise KeyboardInterrupt
    def delete_branch(self, *_):
        raise KeyboardInterrupt
def killed(folder, push_id):
    try:
        pushed(folder, "me/large-left", Killed, push_id=push_id)
    except KeyboardInterrupt:
        pass
def left():
    return sorted(set(Remote({hub.url!r}).look("me/large-left").branches) - {{"main"}})

killed({str(first)!r}, "b2")
assert left() == ["perdure-staging-b2"]
assert pushed({str(first)!r}, "me/large-left", push_id="b2", tried_on={base!r}).changed and left() == []
killed({str(second)!r}, "c3")
Remote({hub.url!r}).create_branch("me/large-left", "perdure-staging-d4", start="main")
pushed({str(second)!r}, "me/large-left", push_id="e5")
assert left() == ["perdure-staging-c3", "perdure-staging-d4"]  # somebody may be at them
staged._ABANDONED_SECONDS = -1
pushed({str(first)!r}, "me/large-left", push_id="f6")
assert left() == ["perdure-staging-d4"]
""")  # fmt: skip


def test_git_itself_moves_a_branch_as_asked(tmp_path: Path) -> None:
    def git(*words: str, stdin: bytes = b"") -> bytes:
        author = {f"GIT_{who}_{what}": "me" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {**os.environ, **author}
        return subprocess.run(
            ["git", *words], cwd=tmp_path, input=stdin, env=environment, capture_output=True, check=True
        ).stdout

    git("init", "--bare", "-q", ".")
    tree = git("mktree").decode().strip()
    old = git("commit-tree", tree, "-m", "old").decode().strip()
    new = git("commit-tree", tree, "-p", old, "-m", "new").decode().strip()
    git("update-ref", "refs/heads/main", old)
    request = move_request("main", old=old, new=new)
    assert b"ok refs/heads/main\n" in git("receive-pack", "--stateless-rpc", ".", stdin=request)
    assert git("rev-parse", "main").decode().strip() == new
    assert b"ng refs/heads/main" in git("receive-pack", "--stateless-rpc", ".", stdin=request)


def branches(hub: Hub, repo: str) -> list[str]:
    return [branch["name"] for branch in hub.ask(f"/api/models/{repo}/refs")["branches"]]
