"""An attached trainer: the same training, and checkpoints that are perdure's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, Trainer, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

import perdure
from perdure.format.manifest import read_manifest
from perdure.integrations.overrides import SAVE_MODEL, SAVE_STATE

TIMES = ("runtime", "per_second")


def untimed(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was logged, without what a clock measured."""
    return [{k: v for k, v in entry.items() if not any(part in k for part in TIMES)} for entry in history]


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.fixture
def trainer(sft: Callable[..., Any], tmp_path: Path, tokenizer: Any) -> Callable[..., Any]:
    """An SFTTrainer that has not trained, on a model with dropout that begins the same each time."""
    from tiny_models import make_model

    def make(name: str, **changes: Any) -> Any:
        settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, **changes}
        model = make_model(tokenizer, attention_dropout=0.1)
        return sft(model, train=False, output_dir=str(tmp_path / name), **settings)

    return make


def test_a_checkpoint_is_a_model_folder_without_pickle(trainer: Callable[..., Any], tmp_path: Path) -> None:
    one = trainer("out")
    perdure.attach(one)
    one.train()
    found = tmp_path / "out" / "checkpoint-6"
    assert perdure.verify(found).ok
    files = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "trainer_state.json", "perdure.json"} <= files
    assert not [name for name in files if name.endswith((".pt", ".pth", ".bin", ".pkl"))]
    assert same(AutoModelForCausalLM.from_pretrained(found), one.model)
    assert AutoTokenizer.from_pretrained(found).eos_token == one.processing_class.eos_token
    assert get_last_checkpoint(tmp_path / "out") == str(found)


def test_training_is_what_it_was_without(trainer: Callable[..., Any], tmp_path: Path) -> None:
    stock = trainer("stock")  # which seeds the generators, so one after the other
    theirs = stock.train()
    ours = trainer("ours")
    perdure.attach(ours)
    mine = ours.train()
    assert untimed(ours.state.log_history) == untimed(stock.state.log_history)
    assert mine.training_loss == theirs.training_loss
    assert same(ours.model, stock.model)
    for step in (2, 4, 6):
        states = [
            (tmp_path / name / f"checkpoint-{step}" / "trainer_state.json").read_text() for name in ("stock", "ours")
        ]
        assert states[0] == states[1]


def test_a_resumed_run_is_the_uninterrupted_one(trainer: Callable[..., Any], tmp_path: Path) -> None:
    whole = trainer("whole", logging_steps=4)
    perdure.attach(whole)
    expected = whole.train()
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "part" / "checkpoint-2")
    part = trainer("part", logging_steps=4)
    handle = perdure.attach(part)
    got = part.train(resume_from_checkpoint=True)
    assert handle.restored is not None
    assert handle.restored.step == 2
    assert same(part.model, whole.model)
    assert got.training_loss == expected.training_loss, "over all steps, not the resumed ones"
    assert untimed(part.state.log_history) == untimed(whole.state.log_history), "num_tokens and a loss over both parts"


def test_nothing_to_resume_begins_at_zero(trainer: Callable[..., Any]) -> None:
    one = trainer("out", max_steps=2)
    handle = perdure.attach(one)
    one.train(resume_from_checkpoint=True)
    assert handle.restored is None
    assert one.state.global_step == 2
    assert [record.step for record in handle.saves] == [2]


class Listener(TrainerCallback):
    """Writes down what `on_save` finds."""

    def __init__(self) -> None:
        self.saves: list[tuple[int, bool, int]] = []

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        path = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")  # noqa: PTH118 - as callbacks do it
        self.saves.append((state.global_step, perdure.verify(path).ok, state.log_history[-1]["step"]))


def test_on_save_comes_after_the_commit_with_the_state_of_then(trainer: Callable[..., Any]) -> None:
    one, listener = trainer("out"), Listener()
    one.add_callback(listener)
    perdure.attach(one)
    one.train()
    assert listener.saves == [(2, True, 2), (4, True, 4), (6, True, 6)]


def test_detached_the_trainer_is_as_it_was(trainer: Callable[..., Any], tmp_path: Path) -> None:
    one = trainer("out", max_steps=2)
    cls, had = type(one), set(vars(one))
    with perdure.attach(one) as handle:
        assert type(one) is not cls
        assert isinstance(one, cls)
        assert type(one).__name__ == cls.__name__
        with pytest.raises(perdure.InvalidInput, match="attached already"):
            perdure.attach(one)
    handle.detach()
    assert type(one) is cls
    assert set(vars(one)) == had
    one.train()
    assert (tmp_path / "out" / "checkpoint-2" / "optimizer.pt").exists()


def test_a_plain_trainer_and_what_is_none(model: LlamaForCausalLM, arguments: Callable[..., Any]) -> None:
    from transformers import TrainingArguments

    data = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 8
    one = Trainer(model, TrainingArguments(**arguments(save_strategy="steps", save_steps=1)), train_dataset=data)
    perdure.attach(one)
    one.train()
    assert [info.state for info in perdure.checkpoints(one.args.output_dir)] == ["whole", "whole"]
    with pytest.raises(perdure.InvalidInput, match="takes a transformers Trainer"):
        perdure.attach(model)


def test_a_trainer_that_adds_to_its_checkpoints_finds_them(
    model: LlamaForCausalLM, arguments: Callable[..., Any]
) -> None:
    from transformers import TrainingArguments

    class Annotating(Trainer):
        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            (Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / "note.txt").write_text("mine")

    data = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 8
    one = Annotating(model, TrainingArguments(**arguments(save_strategy="steps", save_steps=1)), train_dataset=data)
    perdure.attach(one)
    one.train()
    assert (Path(one.args.output_dir) / "checkpoint-2" / "note.txt").read_text() == "mine"


def test_what_a_checkpoint_of_adapters_weighs(sft: Callable[..., Any], tokenizer: Any) -> None:
    from peft import LoraConfig
    from tiny_models import make_model

    wide = make_model(tokenizer, hidden_size=256, intermediate_size=512)
    made = sft(
        wide, train=False, peft=LoraConfig(r=64, target_modules="all-linear"), save_strategy="steps", save_steps=2
    )
    perdure.attach(made).trainer.train()
    states = [made.optimizer.state[one].values() for one in made.model.parameters() if one.requires_grad]
    kept = [one for one in made.model.parameters() if one.requires_grad] + [one for each in states for one in each]
    files = read_manifest(Path(made.args.output_dir) / "checkpoint-2").files
    of_tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert of_tokenizer < set(files)
    nbytes = sum(entry.size for name, entry in files.items() if name not in of_tokenizer)
    assert nbytes <= 1.1 * sum(one.numel() * one.element_size() for one in kept)


def test_checkpoints_of_another_making_are_told_at_once(
    model: LlamaForCausalLM, arguments: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import TrainingArguments

    class Own(Trainer):
        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            self.save_model(f"{self.args.output_dir}/checkpoint-{self.state.global_step}")

    told: list[int] = []

    class Listening(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            told.append(state.global_step)

    data = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 8
    settings = TrainingArguments(**arguments(save_strategy="steps", save_steps=1, max_steps=3))
    one = Own(model, settings, train_dataset=data, callbacks=[Listening()])
    perdure.attach(one, save=perdure.Every(steps=2))
    one.train()
    assert told == [2, 3]
    assert caplog.text.count("Own._save_checkpoint writes checkpoints without calling super()'s") == 1
    with pytest.raises(perdure.Corrupt, match=r"it has no trainer_state\.json: .+ not written by a trainer's own"):
        one.train(resume_from_checkpoint=True)


def test_saving_methods_that_are_not_called_are_told(
    model: LlamaForCausalLM, arguments: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import TrainingArguments

    class Heads(Trainer):
        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            super().save_model(output_dir, _internal_call)
            (Path(str(output_dir)) / "head.txt").write_text("mine")

    one = Heads(model, TrainingArguments(**arguments()), train_dataset=[{"input_ids": [1], "labels": [1]}])
    one._save_scaler = lambda output_dir: None
    with perdure.attach(one):
        assert "without calling trainer._save_scaler, Heads.save_model: what that adds" in caplog.text
        assert "override _save_checkpoint" in caplog.text
    done = perdure.finish(one)
    assert [problem for problem in done.problems if "without calling Heads.save_model:" in problem]
    assert not (done.path / "head.txt").exists()


def test_a_trainer_that_saves_its_own_way_is_refused(trainer: Callable[..., Any]) -> None:
    one = trainer("out")

    class Own(type(one)):  # type: ignore[misc]
        def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
            """As TRL's OnlineDPOTrainer, which is experimental."""

    Own.__module__ = "trl.experimental"
    one.__class__ = Own
    with pytest.raises(perdure.InvalidInput, match="Own logs and saves in a method of its own"):
        perdure.attach(one)


def test_where_to_push_is_checked_at_once(trainer: Callable[..., Any]) -> None:
    one = trainer("out")
    with pytest.raises(perdure.InvalidInput, match="not the name of a repository"):
        perdure.attach(one, push_to="no name at all")
    for save, meant in ((500, "Every(steps=500)"), ("epoch", "Every(epochs=1)")):
        with pytest.raises(perdure.InvalidInput) as caught:
            perdure.attach(one, save=save)  # type: ignore[arg-type]
        assert meant in caught.value.hint


def test_no_trainer_of_trl_adds_to_what_is_saved() -> None:
    """Were one to, `attach` would have to call it, or to say that it does not."""
    import trl

    trainers = [getattr(trl, name) for name in trl.__all__ if name.endswith("Trainer")]
    between = {cls for trainer in trainers for cls in trainer.__mro__[: trainer.__mro__.index(Trainer)]}
    assert {"SFTTrainer", "DPOTrainer", "GRPOTrainer", "RewardTrainer", "RLOOTrainer"} <= {c.__name__ for c in between}
    assert not [(cls, name) for cls in between for name in (*SAVE_MODEL, *SAVE_STATE) if name in vars(cls)]
