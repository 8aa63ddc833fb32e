"""Scenes of an attached Trainer; see `ranks.py`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ranks import RANK, SIZE, digest, full, kill_me, main, scene, told
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

import perdure
from perdure.io import direct


class At(TrainerCallback):
    """Does something when a step has ended, and notes which checkpoints were told of."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.act = act
        self.told: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.act(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert (Path(args.output_dir) / f"checkpoint-{state.global_step}" / "perdure.json").exists()
        self.told.append(state.global_step)


def train(folder: Path, act: Callable[[int], None] = lambda step: None, **options: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        attention_dropout=0.2,
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=8, save_steps=2, save_total_limit=2, logging_steps=1, use_cpu=True,
        per_device_train_batch_size=1, gradient_accumulation_steps=2, dataloader_num_workers=1, report_to="none",
        disable_tqdm=True, learning_rate=1e-2, seed=7, ddp_find_unused_parameters=False, **options,
    )  # fmt: skip
    assert arguments.world_size == SIZE
    assert arguments.should_save == (RANK == 0 or arguments.save_on_each_node)
    rows = [{"input_ids": tokens, "labels": tokens} for tokens in torch.arange(80 * SIZE).view(-1, 8) % 32]
    at = At(act)
    trainer = Trainer(LlamaForCausalLM(config), arguments, train_dataset=rows, callbacks=[at])
    run = perdure.attach(trainer)
    trainer.train(resume_from_checkpoint=True)
    everything = [trainer.model.state_dict(), trainer.optimizer.state_dict(), torch.get_rng_state()]
    return {
        "began": run.restored.step if run.restored else 0, "ended": trainer.state.global_step,
        "stopped": run.stop_requested, "everything": digest(everything), "told": at.told,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }  # fmt: skip


@scene
def whole(folder: Path) -> Any:
    return train(folder)


@scene
def exact_1_killed(folder: Path) -> Any:
    return train(folder, lambda step: kill_me(signal.SIGKILL) if step == 3 and RANK == 1 else None)


@scene
def exact_2_stopped(folder: Path) -> Any:
    return train(folder, lambda step: kill_me(signal.SIGTERM) if step == 5 and RANK == SIZE - 1 else None)


@scene
def exact_3_to_the_end(folder: Path) -> Any:
    return train(folder)


@scene
def a_disk_is_full(folder: Path) -> Any:
    write = direct.write

    def full_for_the_second(path: Path, *args: Any, **options: Any) -> Any:
        return (full if "checkpoint-4" in str(path) else write)(path, *args, **options)

    if RANK == 0:
        direct.write = full_for_the_second
    return told(lambda: train(folder))


def own_machine() -> None:
    """As torchrun says it to the one rank that each of several machines has."""
    os.environ.update(LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")


@scene
def each_node_shared(folder: Path) -> Any:
    own_machine()
    return train(folder, save_on_each_node=True)


@scene
def each_node_apart(folder: Path) -> Any:
    own_machine()
    return told(lambda: train(folder / str(RANK), save_on_each_node=True))


if __name__ == "__main__":
    sys.exit(main())
