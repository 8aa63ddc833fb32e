"""Checkpoints that are pushed while a trainer trains: the real client, the embedded hub over a socket."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from transformers import AutoModelForCausalLM

import perdure
from perdure.checks.verify import verify
from perdure.hub.server import HubServer

TOKEN = "hf_tokenOfMe1234567890"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub"), user="me", token=TOKEN) as server:
        yield server


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub: HubServer) -> None:
    """The hub on this machine is the only one that can be reached; the token is in no environment."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name, value in {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
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
        AutoModelForCausalLM.from_pretrained(pulled)
    assert run.outbox.jobs()[0].step == 2 and "loss" in run.outbox.jobs()[0].metrics
