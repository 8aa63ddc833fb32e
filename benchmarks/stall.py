"""What a checkpoint costs training: the stall it causes, the training time it takes away, and the memory.

Trains a Llama of 55 M parameters with AdamW (0.66 GB of state). Blocks of steps that begin with a save, one for each
way of saving, alternate with blocks without; what a save costs, in time and memory, is what its block takes beyond the
block before.
"""

from __future__ import annotations

import logging
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import _measure
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from _disk import fsync_tree
from _measure import peak_memory, settled_memory
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import get_state_dict

import perdure

BLOCK = 3  # steps: enough for any of these to end within, and as good as "every so many steps"
BATCH, LENGTH, VOCABULARY = 4, 128, 32_000


def _nothing() -> None:
    """There is nothing to wait for."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A save that was begun: what a step must wait for before it changes the model, and what waits for the end."""

    hold: Callable[[], object] = _nothing
    end: Callable[[], object] = _nothing


@dataclass(kw_only=True)
class Way:
    """A way of saving, and what each of its saves came to, in seconds; `begin` is given a folder that is not there."""

    name: str
    begin: Callable[[Path], Begun]
    stall: Callable[[float], float] = lambda seen: seen  # of one that makes steps wait by hooks: what it says itself
    stalls: list[float] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    extra_memory: int = 0


class Training:
    """A model that trains, a step at a time; the Trainer is there for its checkpoints only."""

    def __init__(self, folder: Path) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=512, intermediate_size=2048, num_hidden_layers=9, num_attention_heads=8, vocab_size=VOCABULARY,
            tie_word_embeddings=True,
        )  # fmt: skip
        self.model = LlamaForCausalLM(config)
        arguments = TrainingArguments(str(folder), report_to=[], use_cpu=True, optim="adamw_torch", disable_tqdm=True)
        self.trainer = Trainer(self.model, arguments)
        self.trainer.create_optimizer_and_scheduler(num_training_steps=10_000)
        self.model.train()
        self.optimizer = self.trainer.optimizer
        self.tokens = torch.randint(VOCABULARY, (BATCH, LENGTH))
        self.state = perdure.State(model=self.model, optimizer=self.optimizer, scheduler=self.trainer.lr_scheduler)

    def step(self, hold: Callable[[], object] = _nothing) -> float:
        """One step; returns the seconds that `hold` took."""
        self.optimizer.zero_grad(set_to_none=False)
        self.model(input_ids=self.tokens, labels=self.tokens).loss.backward()
        started = time.perf_counter()
        hold()
        held = time.perf_counter() - started
        self.optimizer.step()
        return held

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}


def ways(training: Training, ckpt: perdure.Checkpointer) -> list[Way]:
    """The way that is none, and those that are compared."""
    count = iter(range(1, 10**9))
    here = {"use_pinned_memory": False, "use_shared_memory": False, "use_non_blocking_copy": False}  # there is no GPU
    stager = DefaultStager(StagingOptions(use_async_staging=True, **here))

    def ours(folder: Path) -> Begun:
        ckpt.save(next(count), training.state, force=True)
        return Begun(end=ckpt.wait)

    def torch_save(folder: Path) -> Begun:
        folder.mkdir()
        torch.save({"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}, folder / "f")
        fsync_tree(folder)
        return Begun()

    def dcp_save(folder: Path) -> Begun:
        dcp.save(training.state_dict(), checkpoint_id=folder)
        return Begun()

    def dcp_async(folder: Path) -> Begun:
        response: Any = dcp.async_save(training.state_dict(), checkpoint_id=folder)
        return Begun(end=response.result)

    def dcp_async_staged(folder: Path) -> Begun:
        response: Any = dcp.async_save(training.state_dict(), checkpoint_id=folder, async_stager=stager)
        return Begun(hold=response.staging_completion.result, end=response.upload_completion.result)

    def trainers_own(folder: Path) -> Begun:
        training.trainer._save_checkpoint(training.model, trial=None)
        return Begun()

    return [
        Way(name="perdure", begin=ours, stall=lambda seen: ckpt.saves[-1].stalled_seconds),
        Way(name="dcp.async_save, async staging", begin=dcp_async_staged),
        Way(name="dcp.async_save", begin=dcp_async),
        Way(name="dcp.save", begin=dcp_save),
        Way(name="torch.save + fsync", begin=torch_save),
        Way(name="Trainer's own, no fsync", begin=trainers_own),
    ]


def block(training: Training, way: Way | None, folder: Path) -> float:
    """Train a block of steps, with a save before the first if there is a way; returns its seconds."""
    started, begun, stall = time.perf_counter(), Begun(), 0.0
    if way is not None:
        begun = way.begin(folder)
        stall = time.perf_counter() - started
    for _ in range(BLOCK):
        stall += training.step(begun.hold)
    begun.end()
    seconds = time.perf_counter() - started
    if way is not None:
        way.stalls.append(way.stall(stall))
    return seconds


def measure(folder: Path, rounds: int, pattern: str) -> tuple[str, dict[str, Any]]:
    """Train and save in `folder`; returns a table, and all figures."""
    training, blocks = Training(folder / "trainer"), []
    with perdure.Checkpointer(folder / "run") as ckpt:
        found = [way for way in ways(training, ckpt) if re.search(pattern, way.name)]
        if not found:
            return f"no way of saving beside training matches {pattern!r}", {}
        for number in range(rounds + 1):  # the first warms up, and counts for memory only
            for way in random.sample(found, len(found)):
                print(f"\r\033[K{number}/{rounds} training, {way.name}", end="", file=sys.stderr, flush=True)
                resident = settled_memory()
                without = block(training, None, folder)
                usual = peak_memory() - resident
                resident = settled_memory()
                seconds = block(training, way, folder / "save")
                way.extra_memory = max(way.extra_memory, peak_memory() - resident - usual)
                for left in ("save", "run", "trainer"):
                    shutil.rmtree(folder / left, ignore_errors=True)
                os.sync()
                blocks.append(without)
                if number:
                    way.costs.append(seconds - without)
                else:
                    way.stalls.clear()
    step = statistics.median(blocks) / BLOCK
    print("\r\033[K", end="", file=sys.stderr)
    return table(found, step), document(found, step)


def table(found: Sequence[Way], step: float) -> str:
    """The ways as text."""
    width = max(len(way.name) for way in found)
    title = f"one step: {step * 1e3:.0f} ms"
    lines = [f"{title:{width}}     stall ms      (min - max)  whole cost ms      (min - max)  extra memory"]
    for way in found:
        stalls, costs = (_summary(values) for values in (way.stalls, way.costs))
        lines.append(f"{way.name:{width}}  {stalls}  {costs}  {way.extra_memory / 2**20:8.0f} MiB")
    return "\n".join(lines)


def _summary(seconds: Sequence[float]) -> str:
    least, middle, most = (1e3 * pick(seconds) for pick in (min, statistics.median, max))
    return f"{middle:11.1f}  {f'({least:.0f} - {most:.0f})':>15}"


def document(found: Sequence[Way], step: float) -> dict[str, Any]:
    """The ways for JSON; seconds and bytes."""
    return {
        "step_seconds": step,
        "steps_per_save": BLOCK,
        "ways": [
            {"name": way.name, "stalls": way.stalls, "costs": way.costs, "extra_memory_bytes": way.extra_memory}
            for way in found
        ],
    }


def main() -> None:
    options = _measure.arguments(__doc__.splitlines()[0])
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=options.dir) as folder:
        text, figures = measure(Path(folder), options.rounds, options.only)
    print(text)
    if options.json:
        _measure.write_json(options.json, rounds=options.rounds, training=figures)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
