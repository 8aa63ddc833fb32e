"""A folder of a repository is published, pulled and resumed from by itself, and the root by itself."""

from __future__ import annotations

import json
from pathlib import Path

from perdure import verify
from publishing import Hub, save_folder, weights

PROGRAM = """
import json
from pathlib import Path
import perdure
from perdure.publishing import push
from perdure.publishing.parts import Limits
from perdure.publishing.prepare import prepared
from perdure.publishing.remote import Remote
from perdure.publishing.request import PushRequest
from perdure.publishing.target import Target

here, url = Path({here!r}), {url!r}
repo, last = "me/folders", {{"path_in_repo": "last-checkpoint", "training_state": True}}
first = perdure.publish(here / "model", repo)
state = perdure.publish(here / "checkpoint-1", repo, **last)
assert perdure.publish(here / "checkpoint-1", repo, **last, dry_run=True).empty
plan = perdure.publish(here / "checkpoint-2", repo, **last, dry_run=True)
watched = []

class Watching(Remote):
    def commit(self, *arguments, **options):
        watched.append(self.look(repo).branches["main"])
        return super().commit(*arguments, **options)

request = PushRequest(target=Target(repo=repo, path_in_repo="last-checkpoint", endpoint=url), training_state=True)
with prepared(here / "checkpoint-2", verify=True, training_state=True) as selection:
    newer = push.Push(remote=Watching(url), request=request, selection=selection, limits=Limits(operations=2)).run()
assert watched == [state.commit] * len(watched) and len(watched) > 2, "readers saw the old one until the end"
assert sorted(newer.files) == sorted([*plan.add, *plan.change]) and newer.deleted == tuple(plan.delete)
root = perdure.publish(here / "model-2", repo, tag="v2")
print(json.dumps({{"plan": sorted(plan.delete), "url": newer.url, "root": [root.files, root.deleted]}}))
"""


def make(folder: Path) -> None:
    """Two models and two checkpoints, the second of each with other names of shards."""
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for n, names in enumerate([shards, ["model.safetensors"]], start=1):
        files = {name: weights(n + at, size=8) for at, name in enumerate(names)} | {"config.json": b'{"n": %d}' % n}
        save_folder(folder / ("model" if n == 1 else "model-2"), files)
        state = {"training_state/rng.json": b"{}", "trainer_state.json": b'{"global_step": %d}' % n}
        save_folder(folder / f"checkpoint-{n}", {**files, **state}, kind="checkpoint")


def test_the_root_and_a_folder_leave_each_other_alone(hub: Hub, tmp_path: Path) -> None:
    make(tmp_path)
    hub.push(save_folder(tmp_path / "empty", {"config.json": b"{}"}), "me/folders")
    for name in ("optimizer.pt", "notes.md"):
        hub.commit_file("me/folders", f"last-checkpoint/{name}", b"x")
    told = json.loads(hub.run(PROGRAM.format(here=str(tmp_path), url=hub.url)))
    assert told["plan"] == [f"last-checkpoint/model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert told["url"] == f"{hub.url}/me/folders/tree/main/last-checkpoint"
    assert not [path for paths in told["root"] for path in paths if "/" in path]
    model = {path.name for path in (tmp_path / "model-2").iterdir()}
    state = {"training_state/rng.json", "trainer_state.json"}
    kept = {"last-checkpoint/notes.md"}  # of a person; the optimizer.pt of another trainer is gone
    assert hub.files("me/folders") == model | {f"last-checkpoint/{path}" for path in model | state} | kept

    whole = hub.cli("pull", "me/folders", str(tmp_path / "pulled"))
    assert set(whole.document["files"]) == model - {"perdure.json"} and verify(tmp_path / "pulled").ok
    for number, options in enumerate((["me/folders@main/last-checkpoint"],
                                      ["me/folders@v2", "--path-in-repo", "last-checkpoint"])):  # fmt: skip
        place = tmp_path / f"last-{number}"
        last = hub.cli("pull", options[0], str(place), *options[1:])
        assert last.code == 0 and last.document["path_in_repo"] == "last-checkpoint", last.messages
        found = verify(place)
        assert found.ok and found.extra == ("notes.md",)
        assert (place / "trainer_state.json").read_bytes() == b'{"global_step": 2}'
    missing = hub.cli("pull", "me/folders@main/nowhere", str(tmp_path / "none"))
    assert missing.error["kind"] == "not-found" and "last-checkpoint" in missing.error["hint"]


def test_a_promotion_takes_the_model_alone(hub: Hub, tmp_path: Path) -> None:
    make(tmp_path)
    hub.push(tmp_path / "model", "me/chosen-folders")
    hub.push(tmp_path / "checkpoint-1", "me/chosen-folders", "--path-in-repo", "last-checkpoint", "--training-state")
    hub.push(tmp_path / "model-2", "me/chosen-folders", "--revision", "better")
    before = hub.files("me/chosen-folders")
    folder = {path for path in before if path.startswith("last-checkpoint/")}
    model = {path.name for path in (tmp_path / "model-2").iterdir()}
    assert hub.cli("promote", "me/chosen-folders@better").code == 0
    assert hub.files("me/chosen-folders") == model | folder
    stable = hub.cli("promote", "me/chosen-folders@main", "--to", "stable")
    assert stable.code == 0 and set(stable.document["deleted"]) == folder and not stable.document["copied"]
    assert hub.files("me/chosen-folders", "stable") == model and len(folder) == 6


def test_what_follows_a_push_to_a_folder_is_written_onto_the_card_there(hub: Hub, tmp_path: Path) -> None:
    make(tmp_path)
    hub.run(f"""
import perdure
box = perdure.Outbox({str(tmp_path)!r})
told = "python3 -c \\"import os; print(os.environ['PERDURE_PATH_IN_REPO'], file=open('{tmp_path}/told', 'w'))\\""
box.add({str(tmp_path / "checkpoint-1")!r}, "me/followed", path_in_repo="one", training_state=True, after=told, step=1)
box.add({str(tmp_path / "model-2")!r}, "me/followed", path_in_repo="two", after=lambda receipt: {{"accuracy": 0.5}})
box.add({str(tmp_path / "model")!r}, "me/followed")
assert box.drain(60) == (), box.jobs()
assert [job.path_in_repo for job in box.jobs()] == ["one", "two", ""] and not any(job.error for job in box.jobs())
""")
    assert (tmp_path / "told").read_text() == "one\n"
    assert "accuracy" in hub.read("me/followed", "two/README.md").decode()
    assert {path for path in hub.files("me/followed") if path.endswith("README.md")} == {"two/README.md"}
    pulled = hub.cli("pull", "me/followed@main/two", str(tmp_path / "two"))
    assert pulled.code == 0 and verify(tmp_path / "two").files == 3


def test_names_of_folders_and_what_must_not_leave(hub: Hub, tmp_path: Path) -> None:
    secret = save_folder(tmp_path / "secret", {"model.safetensors": weights(), "config.json": b'{"a": "/home/ana/x"}'})
    for folder, kind in (("../up", "invalid-input"), (".git/hooks", "invalid-input"), ("a/", "invalid-input"),
                         ("last", "check-failed")):  # fmt: skip
        refused = hub.push(secret, "me/never", "--path-in-repo", folder)
        assert refused.error["kind"] == kind, refused.document
    assert "config.json:1:" in refused.error["hint"]
