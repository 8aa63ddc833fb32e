"""A trainer goes on from a checkpoint that another machine pushed to a Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, snapshot_download
from local_hub import TOKEN, reach
from tiny_models import make_model
from transformers import TrainerCallback

from perdure import InvalidInput, StateMismatch, attach, checkpoints, publish
from perdure.hub.server import HubServer

OPTIONS = {"train": False, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub", user="me", token=TOKEN) as server:
        reach(monkeypatch, server.url, HF_TOKEN=TOKEN, HF_XET_CACHE=str(tmp_path / "xet"))
        yield server


class Stopped(TrainerCallback):
    """Ends the training after two steps, as a machine that is taken away does."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 2


def assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one.model.state_dict(), other.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(one.optimizer.state_dict(), other.optimizer.state_dict(), rtol=0, atol=0)


def test_resumed_on_another_machine_equals_uninterrupted(sft, tokenizer, tmp_path, hub):
    whole = sft(make_model(tokenizer, attention_dropout=0.1), **OPTIONS)
    attach(whole)
    whole.train()
    publish(Path(whole.args.output_dir) / "checkpoint-2", "me/trained", revision="two", training_state=True)
    publish(Path(whole.args.output_dir) / "checkpoint-2", "me/trained", revision="model")

    torch.manual_seed(1)
    other = sft(make_model(tokenizer, attention_dropout=0.1), **OPTIONS, output_dir=str(tmp_path / "other"))
    run = attach(other)
    with pytest.raises(StateMismatch, match="without its training state"):
        other.train(resume_from_checkpoint="hf://me/trained@model")
    other.train(resume_from_checkpoint="hf://me/trained@two")
    assert run.restored is not None and run.restored.path == tmp_path / "other" / "checkpoint-2"
    assert_same(other, whole)


def test_the_last_checkpoint_that_hub_strategy_pushes_is_gone_on_from(
    sft: Callable[..., Any], tokenizer: Any, tmp_path: Path, hub: HubServer
) -> None:
    def trainer_of(name: str, seed: int) -> Any:
        torch.manual_seed(seed)
        model = make_model(tokenizer, attention_dropout=0.1)
        return sft(model, **OPTIONS, output_dir=str(tmp_path / name))

    whole = trainer_of("whole", 0)
    attach(whole)
    whole.train()
    first = trainer_of("first", 0)
    first.args.push_to_hub, first.args.hub_strategy = True, "checkpoint"
    first.args.hub_model_id, first.args.hub_always_push = "me/carried-on", True
    first.add_callback(Stopped())
    run = attach(first)
    first.train()
    first.push_to_hub()  # the model at the root leaves the folder as it is
    assert run.outbox is not None and {job.state for job in run.outbox.jobs()} == {"done"}
    files = HfApi(hub.url, TOKEN).list_repo_files("me/carried-on")
    saved = {path.relative_to(first.args.output_dir).as_posix() for path in Path(first.args.output_dir).rglob("*/*")
             if path.is_file()}  # fmt: skip
    held = {f"checkpoint-2/{path.removeprefix('last-checkpoint/')}" for path in files if "/" in path}
    assert held == {path for path in saved if path.startswith("checkpoint-2/")}
    assert not [path for path in files if path.endswith((".bin", ".pt", ".pth"))]

    other = trainer_of("other", 1)
    run = attach(other)
    other.train(resume_from_checkpoint="hf://me/carried-on@main/last-checkpoint")
    assert run.restored is not None and run.restored.path == tmp_path / "other" / "checkpoint-2"
    assert_same(other, whole)

    third = trainer_of("third", 2)
    run = attach(third)
    with pytest.raises(InvalidInput):
        third.train(resume_from_checkpoint="hf://me/carried-on@main/../first")
    snapshot = Path(snapshot_download("me/carried-on", endpoint=hub.url, token=TOKEN, cache_dir=tmp_path / "cache"))
    third.train(resume_from_checkpoint=str(snapshot / "last-checkpoint"))
    assert run.restored is not None and run.restored.step == 2
    assert_same(third, whole)
    assert [one.step for one in checkpoints(tmp_path / "third")] == [4]
