"""What one checkpoint costs a transformers Trainer: its own beside perdure's, on the same trainer, attached in turn.

Trains a Llama of about 57 M parameters with AdamW (0.69 GB of state). Blocks of steps with one checkpoint in them are
interleaved with blocks without any, in one process. "Waits" is what training loses in the call, and in optimizer steps
that wait for what is not copied yet; "whole cost" is how much longer a block takes until the checkpoint is done, which
counts the processor time that writing takes, too. The Trainer's own files are in the page cache by then, not durable.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from _measure import Row, measure, write_json
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import perdure

STEPS = 4  # of a block: enough for a checkpoint to end within


class SaveOnce(TrainerCallback):
    """Asks for a checkpoint after the first step of a block, and times the block."""

    def __init__(self) -> None:
        self.wanted = False
        self.began = self.ended = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ended = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save = self.wanted and state.global_step == 1


class TimedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that knows how long it was in the call that saves, whoever does it."""

    in_save = 0.0

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        started = time.perf_counter()
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.in_save += time.perf_counter() - started


def make_trainer(out: Path, batch: int, once: SaveOnce) -> TimedTrainer:
    shape = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32000, **shape))
    tokens = torch.randint(32000, (batch * STEPS, 128))
    data = [{"input_ids": row, "labels": row} for row in tokens]
    arguments = TrainingArguments(
        str(out), max_steps=STEPS, per_device_train_batch_size=batch, save_strategy="no", logging_strategy="no",
        report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    return TimedTrainer(model, arguments, train_dataset=data, callbacks=[once])


def block(trainer: TimedTrainer, once: SaveOnce, *, save: bool, ours: bool) -> tuple[float, float]:
    """Seconds that a block takes until all is done, and seconds that training waited for its checkpoint."""
    once.wanted, trainer.in_save = save, 0.0
    if not ours:
        trainer.train()
        return once.ended - once.began, trainer.in_save
    with perdure.attach(trainer) as handle:
        trainer.train()
    # What the steps waited is counted with the beginning of the save, which is in the call, too: a bit too much.
    return once.ended - once.began, trainer.in_save + handle.saves[-1].stalled_seconds


def rows(trainer: TimedTrainer, once: SaveOnce, out: Path, blocks: dict[str, list[float]]) -> list[Row]:
    """One row for each way; `blocks` collects the seconds of every block, in which no trainer is set up."""

    def run(name: str) -> float:
        seconds, waited = block(trainer, once, save=name != "no checkpoint", ours=name == "perdure")
        blocks.setdefault(name, []).append(seconds)
        return waited

    def check(name: str) -> None:
        if name != "no checkpoint":
            AutoModelForCausalLM.from_pretrained(out / "checkpoint-1")
            shutil.rmtree(out)
        os.sync()

    names = ("no checkpoint", "Trainer", "perdure")
    return [Row(name=name, run=partial(run, name), after=partial(check, name)) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds, after one that is not (default: 7)")
    parser.add_argument("--batch", type=int, default=4, help="sequences of 128 tokens a step (default: 4)")
    parser.add_argument("--dir", type=Path, help="a folder on the disk to measure (default: a new one in /tmp)")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with TemporaryDirectory(dir=options.dir) as place:
        out, once = Path(place) / "out", SaveOnce()
        trainer = make_trainer(out, options.batch, once)
        blocks: dict[str, list[float]] = {}
        measured = rows(trainer, once, out, blocks)
        measure(measured, options.rounds)
    typical = {name: statistics.median(seconds[1:]) for name, seconds in blocks.items()}
    base = typical["no checkpoint"]
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    print(f"{parameters / 1e6:.0f} M parameters; one step: {base / STEPS * 1e3:.0f} ms; medians of {options.rounds}; "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"{'':10}{'waits':>10}{'(min - max)':>20}{'whole cost':>14}")
    for row in measured[1:]:
        low, middle, high = (f(row.blocked) * 1e3 for f in (min, statistics.median, max))
        whole = (typical[row.name] - base) * 1e3
        print(f"{row.name:10}{middle:>7.0f} ms{f'({low:.0f} - {high:.0f})':>20}{whole:>11.0f} ms")
    ratios = [theirs / mine for theirs, mine in zip(measured[1].blocked, measured[2].blocked, strict=True)]
    print(
        f"perdure has training wait {statistics.median(ratios):.1f} times less ({min(ratios):.1f} - {max(ratios):.1f})"
    )
    if options.json:
        write_json(
            options.json, rows={row.name: {"seconds": blocks[row.name][1:], "waited": row.blocked} for row in measured}
        )


if __name__ == "__main__":
    sys.exit(main())
