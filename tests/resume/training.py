"""A small training run that writes down all it sees, and a process that forks such runs: torch is imported once.

The parent of a fork must never have run a backward pass, so runs are not forked from the tests themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

import perdure

SAMPLES = 60


class Augmented(Dataset[Any]):
    """Samples with random transforms."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Any:
        x = torch.full((8,), float(index)) / SAMPLES + torch.rand(8) * random.random() * np.random.rand()
        return x, x.sum()


class Stream(IterableDataset[Any]):
    """The same as a stream that knows where it is."""

    def __init__(self) -> None:
        self.at: int | None = None

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        for index in range(first if self.at is None else self.at, SAMPLES, step):
            self.at = index + step
            yield Augmented()[index]
        self.at = None

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"]


def digest(value: Any) -> str:
    """Of every bit of tensors, numbers and nests of them."""
    hasher = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            hasher.update(item.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(item, dict):
            for key, inner in item.items():
                add([str(key), inner])
        elif isinstance(item, (list, tuple)):
            for inner in item:
                add(inner)
        else:
            hasher.update(repr(item).encode())

    add(value)
    return hasher.hexdigest()


def train(
    folder: str,
    report: str,
    *,
    total: int = 24,
    optimizer: str = "adamw",
    workers: int = 0,
    stream: bool = False,
    accumulate: int = 1,
    autocast: bool = False,
    width: int = 64,
    stop_at: int | None = None,
    stop_by: str = "SIGTERM",
) -> None:
    """Train until `total` steps are done, resuming where the checkpoints in `folder` say.

    For each step `report` gets a line: digests of each loss and its batch, and of weights, optimizer, scheduler and
    generators after it.

    Args:
        stop_at: Ask for a stop with the signal `stop_by` when this step is done.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, width), torch.nn.BatchNorm1d(width), torch.nn.GELU(), torch.nn.Dropout(0.2),
        torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.Linear(width, 1),
    )  # fmt: skip
    optim: torch.optim.Optimizer = (
        torch.optim.AdamW(model.parameters(), lr=1e-2)
        if optimizer == "adamw"
        else torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optim, T_max=total)
    data = Stream() if stream else Augmented()
    loader: DataLoader[Any] = DataLoader(data, batch_size=4, shuffle=not stream, num_workers=workers)
    state = perdure.State(model=model, optimizer=optim, scheduler=scheduler, loader=loader)

    def everything() -> list[Any]:
        generators = [torch.get_rng_state(), random.getstate(), np.random.get_state()]
        return [model.state_dict(), optim.state_dict(), scheduler.state_dict(), *generators]

    with (
        perdure.Checkpointer(folder, save=perdure.Every(steps=2), keep=perdure.Keep(last=2)) as ckpt,
        Path(report).open("a") as lines,
    ):
        step, micro, losses = ckpt.restore(state), 0, []
        while step < total:
            for x, y in loader:
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = (model(x)[:, 0] - y).pow(2).mean()
                (loss / accumulate).backward()
                losses.append(digest([loss, x]))
                micro += 1
                if micro % accumulate:
                    continue
                optim.step()
                optim.zero_grad()
                scheduler.step()
                step += 1
                lines.write(json.dumps({"step": step, "losses": losses, "state": digest(everything())}) + "\n")
                lines.flush()
                losses = []
                if step == stop_at:
                    os.kill(os.getpid(), signal.Signals[stop_by])
                ckpt.save(step, state, metrics={"loss": loss.item()})
                if step == total or ckpt.stop_requested:
                    break
            if ckpt.stop_requested:
                return
    Path(report).with_suffix(".end").write_text(digest(everything()))


def warm_up() -> None:
    """Have imported whatever runs import late."""
    assert perdure.Checkpointer
    assert perdure.State
    weight = torch.nn.Parameter(torch.zeros(2))
    for kind in (torch.optim.AdamW, torch.optim.SGD):
        optim = kind([weight], lr=0.1)
        weight.grad = torch.zeros(2)
        optim.step()
        optim.zero_grad()
        torch.optim.lr_scheduler.CosineAnnealingLR(optim, T_max=2).step()


def serve() -> None:
    """Fork a run for each line of standard input, print its process id, and, once it ended, its status."""
    warm_up()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                train(**json.loads(line))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    serve()
