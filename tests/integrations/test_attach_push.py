"""Checkpoints that are pushed while a trainer trains: the real client, the embedded hub over a socket."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from local_hub import TOKEN, reach
from transformers import AutoModelForCausalLM, TrainingArguments

import perdure
from perdure.checks.verify import verify
from perdure.hub.server import HubServer
from perdure.integrations.attach_push import routes_of


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub: HubServer) -> None:
    """The hub on this machine is the only one that can be reached; the token is in no environment."""
    reach(monkeypatch, hub.url, HF_HOME=str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def trainer_of(sft: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """A trainer of four steps that saves after each second one, whose arguments hold the token."""

    def make(**changes: Any) -> Any:
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "hub_token": TOKEN, **changes}
        return sft(model, train=False, **settings)

    return make


def fetch(hub: HubServer, repo: str, revision: str, into: Path) -> Path:
    """The files of a revision, as they lie on the hub."""
    for name in HfApi(hub.url, TOKEN).list_repo_files(repo, revision=revision):
        address = f"{hub.url}/{repo}/resolve/{revision}/{name}"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {TOKEN}"})
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(request, timeout=30) as answer:
            (into / name).write_bytes(answer.read())
    return into


def branches(repo: str, hub: HubServer) -> dict[str, str]:
    return {ref.name: ref.target_commit for ref in HfApi(hub.url, TOKEN).list_repo_refs(repo).branches}


def test_every_checkpoint_is_a_revision(trainer_of: Callable[..., Any], hub: HubServer, tmp_path: Path) -> None:
    followed: list[str] = []
    trainer = trainer_of(save_total_limit=1)
    run = perdure.attach(trainer, push_to="me/steps", after_push=lambda receipt: followed.append(receipt.revision))
    trainer.train()
    done = perdure.finish(trainer, wait=90)

    assert done.problems == () and done.receipt is not None and done.receipt.revision == "main"
    assert run.outbox is not None and [job.state for job in run.outbox.jobs()] == ["done"] * 3
    names = ["main-step-000000002", "main-step-000000004"]
    assert sorted(branches("me/steps", hub)) == ["main", *names] and sorted(followed) == names
    assert not (done.path / "checkpoint-2").exists(), "rotated, and pushed all the same"
    api = HfApi(hub.url, TOKEN)
    first = api.list_repo_commits("me/steps")[-1].commit_id
    for name in names:
        commits = [commit.commit_id for commit in api.list_repo_commits("me/steps", revision=name)]
        assert len(commits) == 2 and commits[1] == first
        pulled = fetch(hub, "me/steps", name, tmp_path / name)
        assert verify(pulled).ok and not (pulled / "training_state").exists()
        facts = perdure.Facts.from_json((pulled / "card_facts.json").read_text())
        assert facts.training is not None and facts.training.steps == int(name[-9:])
        assert f"{facts.training.steps} steps" in (pulled / "README.md").read_text()
        AutoModelForCausalLM.from_pretrained(pulled)
    assert run.outbox.jobs()[0].step == 2 and "loss" in run.outbox.jobs()[0].metrics


@pytest.mark.parametrize(
    ("strategy", "where"),
    [
        ("end", []),
        ("every_save", [("", False, True)]),
        ("checkpoint", [("", False, True), ("last-checkpoint", True, False)]),
        ("all_checkpoints", [("", False, True), ("checkpoint-7", True, False)]),
    ],
)
def test_where_checkpoints_go(strategy: str, where: list[tuple[str, bool, bool]], tmp_path: Path) -> None:
    args = TrainingArguments(str(tmp_path), hub_strategy=strategy, hub_revision="try", report_to="none")
    assert routes_of(args, is_told=False, revisions=True, training_state=False) == ()
    args.push_to_hub = True
    routes = routes_of(args, is_told=False, revisions=True, training_state=False)
    assert [(route.path_in_repo(7), route.training_state, route.is_followed) for route in routes] == where
    assert {route.revision(7) for route in routes} <= {"try"}
    told = routes_of(args, is_told=True, revisions=False, training_state=True)
    assert [(route.revision(7), route.training_state) for route in told] == [("try", True)]


def test_the_trainers_arguments_are_honoured_and_its_own_pushes_do_not_run(
    trainer_of: Callable[..., Any], hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda *args, **options: pytest.fail("it ran"))
    trainer = trainer_of()
    given = {
        "push_to_hub": True, "hub_model_id": "me/by-args", "hub_strategy": "all_checkpoints", "hub_always_push": True,
        "hub_private_repo": False, "hub_revision": "try",
    }  # fmt: skip
    for name, value in given.items():
        setattr(trainer.args, name, value)
    run = perdure.attach(trainer)
    trainer.train()
    receipt = trainer.push_to_hub(revision="other")

    assert receipt is not None and (receipt.revision, receipt.private) == ("other", False)
    assert run.outbox is not None and [job.state for job in run.outbox.jobs()] == ["done"] * 5
    assert sorted(branches("me/by-args", hub)) == ["main", "other", "try"]
    messages = [commit.title for commit in HfApi(hub.url, TOKEN).list_repo_commits("me/by-args", revision="try")]
    saved = [f"Training in progress, step {step}" for step in (4, 2)]
    assert messages[:4] == [title for step in saved for title in (f"{step}, checkpoint", step)]
    whole = fetch(hub, "me/by-args", "try", tmp_path / "whole")
    for place in (whole, whole / "checkpoint-2", whole / "checkpoint-4"):
        assert verify(place).ok and (place / "training_state").exists() == (place != whole)
    files = HfApi(hub.url, TOKEN).list_repo_files("me/by-args", revision="other")
    assert "model.safetensors" in files and not [
        name for name in files if name.endswith((".bin", ".pt")) or "/" in name
    ]


def test_what_cannot_be_pushed_is_told_before_training(
    trainer_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(hub_token=None)
    with pytest.raises(perdure.InvalidInput, match="there are none"):
        perdure.attach(trainer, after_push="true")
    with pytest.raises(perdure.InvalidInput, match="there is none"):
        perdure.attach(trainer, training_state=True)
    with pytest.raises(perdure.InvalidInput, match="neither True nor False"):
        perdure.attach(trainer, push_to="me/none", revisions="yes")
    with pytest.raises(perdure.InvalidInput, match="neither a command line nor a callable"):
        perdure.attach(trainer, push_to="me/none", after_push=3)
    trainer.args.hub_revision = "0" * 40
    with pytest.raises(perdure.InvalidInput, match="not a commit"):
        perdure.attach(trainer, push_to="me/none", revisions=False)
    trainer.args.hub_revision = None
    trainer.model.config.vision_tower = "/home/ana/models/clip"
    with pytest.raises(perdure.CheckFailed, match=r"config\.json, line .*: a path of this machine") as caught:
        perdure.attach(trainer, push_to="me/none")
    assert "Take it out of model.config" in caught.value.hint
    del trainer.model.config.vision_tower
    with perdure.attach(trainer, push_to="me/none", after_push="no-such-program --x"):
        assert "Checkpoints are queued in" in caplog.text and "There is no token" in caplog.text
        assert "cannot be run on this machine: no-such-program is not found." in caplog.text


def test_what_waits_gives_way_to_a_newer_checkpoint(
    trainer_of: Callable[..., Any], hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless hub_always_push is set; what was tried may be a commit already, and stays."""
    monkeypatch.setattr(perdure.Outbox, "start", lambda self: None)
    trainer = trainer_of(save_steps=1)
    trainer.args.push_to_hub, trainer.args.hub_model_id = True, "me/skips"
    run = perdure.attach(trainer)
    trainer.train()
    assert run.outbox is not None
    *others, last = run.outbox.jobs()
    assert {job.state for job in others} == {"cancelled"}
    assert (last.state, last.step, last.revision) == ("queued", trainer.state.global_step, "main")
    assert caplog.text.count("hub_always_push=True") == 1
    run.outbox.cancel(last.id)
