"""A chosen revision becomes main: one commit, no large bytes over the wire, and a tag that does not move by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, Request

from perdure import verify
from publishing import Hub, save_folder, weights

MIB = 2**20


def checkpoint(folder: Path, step: int, **more: bytes) -> Path:
    """Weights of a size that a Hub keeps apart from git, and small files."""
    files = {"model.safetensors": weights(step, size=2**13), "config.json": b'{"step": %d}' % step}
    return save_folder(folder / str(step), {**files, "training_state/rng.json": b"{}"}, kind="checkpoint")


@pytest.fixture(scope="module")
def repo(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two revisions, the second with its training state, and on main something older."""
    folder = tmp_path_factory.mktemp("steps")
    old = {"model-00001-of-00001.safetensors": weights(9), "config.json": b"{}"}
    hub.run(f"""
from pathlib import Path
from perdure.publishing.publish import publish_to
from perdure.publishing.request import PushRequest
from perdure.publishing.target import Target
for path in ({str(checkpoint(folder, 200))!r}, {str(checkpoint(folder, 400))!r}):
    revision = "main-step-" + Path(path).name
    target = Target(repo="me/chosen", revision=revision, endpoint={hub.url!r})
    publish_to(PushRequest(target=target, start="first", training_state=Path(path).name == "400"), Path(path))
target = Target(repo="me/chosen", endpoint={hub.url!r})
publish_to(PushRequest(target=target), Path({str(save_folder(folder / "old", old))!r}))
""")
    return "me/chosen"


def tree(hub: Hub, repo: str, revision: str) -> dict[str, str]:
    entries = hub.ask(f"/api/models/{repo}/tree/{revision}?recursive=1")
    return {entry["path"]: entry["oid"] for entry in entries if entry["type"] == "file"}


def test_main_becomes_what_was_chosen_and_no_weights_are_sent(hub: Hub, repo: str) -> None:
    before = hub.commits(repo)
    would = hub.text("promote", f"{repo}@main-step-200", "--tag", "v1.0", "--dry-run")
    assert "~ model.safetensors (2.1 MB)" in would and "- model-00001-of-00001.safetensors (" in would
    assert f"main of {repo} would be now what main-step-200 is" in would and "would be at the new commit" in would
    with FaultyProxy(hub.url, lambda request: None) as proxy:
        dry = hub.cli("promote", f"{repo}@main-step-200", "--tag", "v1.0", "--dry-run", HF_ENDPOINT=proxy.url)
        assert hub.commits(repo) == before and dry.document["commit"] is None and dry.document["changed"]
        done = hub.cli("promote", f"{repo}@main-step-200", "--tag", "v1.0", HF_ENDPOINT=proxy.url)
        assert 0 < proxy.carried < 0.1 * MIB  # of 2 MiB
    assert done.code == 0, done.messages
    assert tree(hub, repo, "main") == tree(hub, repo, "main-step-200") == tree(hub, repo, "v1.0")
    after = hub.commits(repo)
    assert after == [done.document["commit"], *before] and done.document["before"] == before[0]
    assert set(done.document["copied"]) == {"model.safetensors", "config.json", "perdure.json"}
    assert set(done.document["deleted"]) == {"model-00001-of-00001.safetensors"}
    for name in ("copied", "deleted", "tag", "before", "chosen"):
        assert done.document[name] == dry.document[name]

    again = hub.text("promote", f"{repo}@main-step-200", "--tag", "v1.0")
    assert f"main of {repo} is what main-step-200 is already: no new commit" in again and hub.commits(repo) == after
    assert f"The tag v1.0 is at {after[0][:12]}" in again
    git = ["git", "ls-remote", "--tags", f"{hub.url.replace('//', f'//me:{hub.token}@')}/{repo}"]
    refs = subprocess.run(git, capture_output=True, text=True, timeout=60, check=True).stdout
    assert f"{after[0]}\trefs/tags/v1.0^{{}}" in refs, "annotated: the tag is an object of its own"


def test_a_tag_moves_only_by_force_and_training_state_stays_behind(hub: Hub, repo: str, tmp_path: Path) -> None:
    hub.cli("promote", f"{repo}@main-step-200", "--tag", "v2")
    before = hub.commits(repo)
    refused = hub.cli("promote", f"{repo}@main-step-400", "--tag", "v2")
    assert refused.code == 1 and refused.error["kind"] == "conflict" and "--force" in refused.error["hint"]
    assert hub.commits(repo) == before

    moved = hub.cli("promote", f"{repo}@main-step-400", "--tag", "v2", "--force", "--message", "Best of all")
    assert moved.code == 0 and moved.document["tag_before"] == before[0], moved.messages
    assert before[0] in moved.messages, "told before it is gone"
    assert hub.commits(repo, "v2")[0] == moved.document["commit"] == hub.commits(repo)[0] != before[0]
    assert not any(path.startswith("training_state") for path in hub.files(repo))
    for path in hub.files(repo):
        (tmp_path / path).write_bytes(hub.read(repo, path))
    found = verify(tmp_path)
    assert found.ok and found.files == 2 and found.extra == ()
    again = hub.cli("promote", f"{repo}@main-step-400", "--tag", "v2")
    assert again.code == 0 and not again.document["changed"]


def test_what_happens_between_deleting_a_tag_and_creating_it_is_told_and_mended(hub: Hub, repo: str) -> None:
    hub.cli("promote", f"{repo}@main-step-200", "--tag", "v3")

    def choose(request: Request) -> str | None:
        return "503" if request.method == "POST" and "/tag/" in request.path else None

    with FaultyProxy(hub.url, choose) as proxy:
        command = ["promote", f"{repo}@main-step-400", "--tag", "v3", "--force"]
        stuck = hub.cli(*command, HF_ENDPOINT=proxy.url)
        assert stuck.code == 3 and proxy.met["503"] > 0
    commit = hub.commits(repo)[0]
    assert commit in stuck.error["message"] and "may be gone" in stuck.error["message"]
    assert "perdure promote me/chosen@main-step-400 --tag v3 --force" in stuck.error["hint"]
    assert "v3" not in {ref["name"] for ref in hub.ask(f"/api/models/{repo}/refs")["tags"]}
    assert hub.cli(*command).code == 0 and hub.commits(repo, "v3")[0] == commit == hub.commits(repo)[0]


def test_an_answer_that_is_lost_makes_no_second_commit_and_one_in_between_is_told(hub: Hub, repo: str) -> None:
    def lose_one(request: Request) -> str | None:
        return "lost" if "/commit/" in request.path and not proxy.met else None

    def be_faster(request: Request) -> None:
        if "/commit/" in request.path and hub.commits(repo)[0] == before[0]:
            hub.commit_file(repo, "theirs.txt", b"x")

    hub.cli("promote", f"{repo}@main-step-200")
    before = hub.commits(repo)
    with FaultyProxy(hub.url, lose_one) as proxy:
        done = hub.cli("promote", f"{repo}@main-step-400", HF_ENDPOINT=proxy.url)
        assert done.code == 0 and proxy.met["lost"] == 1, done.messages
    assert hub.commits(repo) == [done.document["commit"], *before]

    before = hub.commits(repo)
    with FaultyProxy(hub.url, be_faster) as proxy:
        told = hub.cli("promote", f"{repo}@main-step-200", HF_ENDPOINT=proxy.url)
    assert told.code == 1 and told.error["kind"] == "conflict" and hub.read(repo, "theirs.txt") == b"x"
    assert hub.commits(repo)[1:] == before


def test_what_is_not_there_is_told_and_a_new_branch_begins_at_the_revision(hub: Hub, repo: str) -> None:
    missing = hub.cli("promote", f"{repo}@no-such")
    assert missing.code == 2 and "perdure revisions me/chosen" in missing.error["hint"]
    assert hub.cli("promote", "me/no-such@main").error["kind"] == "not-found"
    assert hub.cli("promote", repo).code == 2
    stable = hub.cli("promote", f"{repo}@main-step-200", "--to", "stable", "--tag", "stable-1")
    assert stable.code == 0 and stable.document["before"] is None and not stable.document["changed"]
    assert hub.commits(repo, "stable") == hub.commits(repo, "main-step-200") == hub.commits(repo, "stable-1")
