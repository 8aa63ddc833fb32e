"""When an attached trainer saves, and which checkpoints it keeps: its own arguments rule, and nothing good is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, TrainerCallback

import perdure
from perdure.io.locks import pinned


@pytest.fixture
def attached(sft: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """An attached SFTTrainer that saves each step and has not trained."""

    def make(save: Any = None, keep: Any = None, callbacks: tuple[Any, ...] = (), **changes: Any) -> Any:
        settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 1, "logging_strategy": "no", **changes}
        trainer = sft(model, train=False, eval_set=True, **settings)
        for callback in callbacks:
            trainer.add_callback(callback)
        perdure.attach(trainer, save=save, keep=keep)
        return trainer

    return make


def steps(trainer: Any) -> list[int]:
    return [info.step for info in perdure.checkpoints(trainer.args.output_dir) if info.state == "whole"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"save_steps": 4}, [4, 6]),
        ({"save_steps": 0.5}, [3, 6]),
        ({"save_strategy": "epoch"}, [4, 6]),
        ({"save_total_limit": 2}, [5, 6]),
        ({"save": perdure.Every(steps=5)}, [5, 6]),
        ({"save_strategy": "no", "save": perdure.Every(epochs=0.5)}, [2, 4, 6]),
        ({"keep": perdure.Keep(last=1, every=3)}, [3, 6]),
    ],
)
def test_when_and_which(attached: Callable[..., Any], changes: dict[str, Any], expected: list[int]) -> None:
    trainer = attached(**changes)
    trainer.train()
    assert steps(trainer) == expected


def test_no_strategy_writes_nothing(attached: Callable[..., Any]) -> None:
    trainer = attached(save_strategy="no")
    trainer.train()
    assert not list(Path(trainer.args.output_dir).glob("checkpoint-*"))


class Scores(TrainerCallback):
    """Has the evaluations come out as told, by the step."""

    def __init__(self, losses: dict[int, float]) -> None:
        self.losses = losses

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        metrics["eval_loss"] = state.log_history[-1]["eval_loss"] = self.losses[state.global_step]


BEST_AT_2 = {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5, 5: 2.6, 6: 2.7}
CHOOSES: dict[str, Any] = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
    "load_best_model_at_end": True,
}


@pytest.mark.parametrize("limit", [1, 2])
def test_the_best_stays_and_is_loaded_at_the_end(attached: Callable[..., Any], limit: int) -> None:
    trainer = attached(callbacks=(Scores(BEST_AT_2),), save_total_limit=limit, **CHOOSES)
    trainer.train()
    assert steps(trainer) == [2, 6]
    assert trainer.state.best_model_checkpoint == f"{trainer.args.output_dir}/checkpoint-2"
    best = AutoModelForCausalLM.from_pretrained(trainer.state.best_model_checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), best.parameters(), strict=True))
    metrics = {info.step: info.metrics for info in perdure.checkpoints(trainer.args.output_dir)}
    assert metrics[2]["eval_loss"] == 1.0


def test_save_strategy_best(attached: Callable[..., Any]) -> None:
    trainer = attached(callbacks=(Scores(BEST_AT_2),), **{**CHOOSES, "save_strategy": "best"})
    trainer.train()
    assert steps(trainer) == [1, 2]


def test_a_relative_output_folder(
    attached: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = attached(callbacks=(Scores(BEST_AT_2),), output_dir="./out", save_total_limit=1, **CHOOSES)
    trainer.train()
    assert steps(trainer) == [2, 6]
    assert trainer.state.best_model_checkpoint == "./out/checkpoint-2", "as the trainer itself writes it"


class Meddler(TrainerCallback):
    """Once the second checkpoint is there, does what people do to run folders."""

    def __init__(self) -> None:
        self.pin: Any = None

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        run = Path(args.output_dir)
        if state.global_step == 2:
            for name in ("checkpoint-merged", "checkpoint-1-merged", "checkpoint-0001"):
                (run / name).mkdir()
                (run / name / "model.safetensors").write_bytes(b"mine")
            os.utime(run / "checkpoint-1", (2**31, 2**31))  # as if it were the newest
            self.pin = pinned(run / "checkpoint-2")  # as an upload does
            self.pin.__enter__()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pin.__exit__(None, None, None)


def test_nothing_is_deleted_but_old_checkpoints_of_ours(attached: Callable[..., Any]) -> None:
    trainer = attached(callbacks=(Meddler(),), save_total_limit=3)
    trainer.train()
    names = {path.name for path in Path(trainer.args.output_dir).glob("checkpoint-*")}
    mine = {"checkpoint-merged", "checkpoint-1-merged", "checkpoint-0001"}
    assert names == mine | {"checkpoint-2", "checkpoint-4", "checkpoint-5", "checkpoint-6"}


def test_a_damaged_best_model_is_not_loaded(attached: Callable[..., Any]) -> None:
    class Damage(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                weights = Path(args.output_dir) / "checkpoint-2" / "model.safetensors"
                weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")

    trainer = attached(callbacks=(Scores(BEST_AT_2), Damage()), **CHOOSES)
    with pytest.raises(perdure.Corrupt, match="best model was not loaded"):
        trainer.train()


def test_save_only_model(attached: Callable[..., Any]) -> None:
    trainer = attached(save_only_model=True, max_steps=2)
    trainer.train()
    folder = Path(trainer.args.output_dir) / "checkpoint-2"
    assert AutoModelForCausalLM.from_pretrained(folder)
    assert not (folder / "training_state" / "optimizer.json").exists()
    with pytest.raises(perdure.StateMismatch, match="no optimizer"):
        trainer.train(resume_from_checkpoint=True)


def test_early_stopping_keeps_its_patience(attached: Callable[..., Any], sft: Callable[..., Any], model: Any) -> None:
    trainer = attached(callbacks=(Scores(BEST_AT_2), EarlyStoppingCallback(3)), max_steps=4, **CHOOSES)
    trainer.train()
    again = sft(
        model, train=False, eval_set=True, **{**CHOOSES, "max_steps": 8, "save_strategy": "steps", "save_steps": 1}
    )
    patience = EarlyStoppingCallback(3)
    again.add_callback(Scores(BEST_AT_2))
    again.add_callback(patience)
    perdure.attach(again)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 5, "3, 4 and 5 were no better than 2"
    assert patience.early_stopping_patience_counter == 3


def test_save_and_the_best_strategy_contradict(sft: Callable[..., Any], model: Any) -> None:
    trainer = sft(model, train=False, eval_set=True, **{**CHOOSES, "save_strategy": "best"})
    with pytest.raises(perdure.InvalidInput, match="cannot both"):
        perdure.attach(trainer, save=perdure.Every(steps=1))
