"""Scenes that the ranks of a torchrun play together; each rank writes down what it saw.

A rank imports torch once, and forks a child for each scene; the children of a scene form a process group of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import perdure
from perdure.io import direct

OUT = Path(os.environ["OUT"])
RANK, SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
TOTAL = 12
SCENES: dict[str, Callable[[Path], Any]] = {}


def scene(play: Callable[[Path], Any]) -> Callable[[Path], Any]:
    SCENES[play.__name__] = play
    return play


class Augmented(Dataset[Any]):
    """Samples with random transforms."""

    def __init__(self, count: int = 10 * SIZE) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        x = torch.full((8,), float(index)) / len(self) + torch.rand(8) * random.random() * np.random.rand()
        return x, x.sum()


class Told:
    """An object of one's own, with a state that each rank has for itself, or a fault."""

    def __init__(self) -> None:
        self.value: Any = {"rank": RANK}
        self.fault: Callable[[], None] | None = None

    def state_dict(self) -> Any:
        if self.fault is not None:
            self.fault()
        return {"value": self.value}

    def load_state_dict(self, state: Any) -> None:
        self.value = state["value"]


def seed() -> None:
    """Each rank draws numbers of its own."""
    torch.manual_seed(RANK)
    random.seed(RANK)
    np.random.seed(RANK)


def digest(value: Any) -> str:
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


class Run:
    """A DDP model with dropout, its optimizer, and all that goes with it."""

    def __init__(self) -> None:
        seed()
        module = torch.nn.Sequential(
            torch.nn.Linear(8, 32), torch.nn.BatchNorm1d(32), torch.nn.GELU(), torch.nn.Dropout(0.3),
            torch.nn.Linear(32, 1),
        )  # fmt: skip
        self.model = DistributedDataParallel(module)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=TOTAL)
        self.scaler = torch.amp.GradScaler("cpu")
        self.sampler: Any = DistributedSampler(Augmented(), SIZE, RANK, shuffle=True)
        self.loader: Any = DataLoader(Augmented(), batch_size=2, sampler=self.sampler, num_workers=1)
        self.told = Told()
        self.state = perdure.State(
            model=self.model, optimizer=self.optimizer, scheduler=self.scheduler, scaler=self.scaler,
            loader=self.loader, told=self.told,
        )  # fmt: skip

    def learn(self, x: torch.Tensor, y: torch.Tensor) -> str:
        loss = (self.model(x)[:, 0] - y).pow(2).mean()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.scheduler.step()
        return digest([loss, x])

    def learn_something(self) -> None:
        self.learn(torch.rand(2, 8), torch.rand(2))

    def everything(self) -> str:
        """Its digest."""
        return digest([
            self.model.state_dict(), self.optimizer.state_dict(), self.scheduler.state_dict(), self.scaler.state_dict(),
            torch.get_rng_state(), random.getstate(), np.random.get_state(), self.told.value,
        ])  # fmt: skip


def train(folder: Path, at: Callable[[int], None] = lambda step: None) -> dict[str, Any]:
    """Train to the end, resuming where the checkpoints say; `at` is called before each step is told to perdure."""
    run, seen = Run(), {}
    with perdure.Checkpointer(folder, save=perdure.Every(steps=2), keep=perdure.Keep(last=2)) as ckpt:
        step = began = ckpt.restore(run.state)
        while step < TOTAL and not ckpt.stop_requested:
            run.sampler.set_epoch(step // len(run.loader))
            for x, y in run.loader:
                seen[step] = run.learn(x, y)
                step += 1
                at(step)
                ckpt.save(step, run.state)
                if step == TOTAL or ckpt.stop_requested:
                    break
    return {"began": began, "ended": step, "seen": seen, "everything": run.everything()}


def kill_me(number: int) -> None:
    os.kill(os.getpid(), number)


@scene
def whole(folder: Path) -> Any:
    return train(folder)


@scene
def exact_1_killed(folder: Path) -> Any:
    return train(folder, lambda step: kill_me(signal.SIGKILL) if step == 5 and RANK == 1 else None)


@scene
def exact_2_stopped(folder: Path) -> Any:
    return train(folder, lambda step: kill_me(signal.SIGTERM) if step == 9 and RANK == SIZE - 1 else None)


@scene
def exact_3_to_the_end(folder: Path) -> Any:
    return train(folder)


def told(call: Callable[[], Any]) -> dict[str, Any]:
    """How a call failed."""
    try:
        return {"returned": call()}
    except Exception as error:
        return {
            "error": type(error).__name__, "message": str(error), "rank": getattr(error, "rank", None),
            "cause": type(error.__cause__).__name__,
        }  # fmt: skip


def steps(folder: Path) -> list[int]:
    dist.barrier()
    return [info.step for info in perdure.checkpoints(folder) if info.state == "whole"]


def full(*args: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


@scene
def a_fault_on_one_rank_is_told_on_all(folder: Path) -> Any:
    run, said = Run(), {}
    with perdure.Checkpointer(folder) as ckpt:
        ckpt.save(1, run.state, force=RANK == 1)  # what one rank asks for, all do
        ckpt.wait()
        if RANK == 1:
            run.told.fault = full
        said["handing in"] = told(lambda: ckpt.save(2, run.state, force=True))
        said["left by it"] = steps(folder)
        run.told.fault = None
        run.told.value = object() if RANK == 1 else 0
        said["inexpressible"] = told(lambda: ckpt.save(2, run.state, force=True))
        run.told.value = RANK
        said["another step"] = told(lambda: ckpt.save(2 + RANK, run.state, force=True))
        write = direct.write
        if RANK == 0:
            direct.write = full
        ckpt.save(3, run.state, force=True)
        said["writing"] = told(ckpt.wait)
        direct.write = write
        said["left by all"] = steps(folder)
        said["made up for"] = ckpt.save(4, run.state)
        ckpt.wait()
        said["in the end"] = steps(folder)
        dist.barrier()
        (newest,) = [info.path for info in perdure.checkpoints(folder) if info.step == 4]
        if RANK == 0:
            damaged = newest / "training_state" / "rank-00001" / "rng.safetensors"
            damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
        dist.barrier()
        said["restored"] = ckpt.restore(run.state)
        said["skipped"] = [skipped.reason for skipped in ckpt.restored.skipped] if ckpt.restored else None
        said["own value"] = run.told.value
        said["records"] = len(ckpt.saves)
    hidden = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    said["leftovers"] = sorted(hidden - {".perdure"})  # which rank 0 may just be about to remove
    return said


@scene
def a_rank_dies_while_it_hands_in(folder: Path) -> Any:
    run = Run()
    with perdure.Checkpointer(folder) as ckpt:
        ckpt.save(1, run.state, force=True)
        ckpt.wait()
        if RANK == 1:
            run.told.fault = lambda: kill_me(signal.SIGKILL)
        failed = told(lambda: ckpt.save(2, run.state, force=True))
        if failed:
            raise_in_block(failed)
    return None


class Leaving(Exception):
    pass


def raise_in_block(what: Any) -> None:
    raise Leaving(json.dumps(what))


@scene
def a_rank_leaves_with_an_error(folder: Path) -> Any:
    run = Run()
    with perdure.Checkpointer(folder, save=perdure.Every(steps=1)) as ckpt:
        run.learn_something()
        ckpt.save(1, run.state)
        if RANK == 1:
            raise Leaving(json.dumps("by itself"))
        raise Leaving(json.dumps(told(lambda: ckpt.save(2, run.state))))


@scene
def separate_disks(folder: Path) -> Any:
    run = Run()
    ckpt = perdure.Checkpointer(folder / f"of-{RANK}")
    return told(lambda: ckpt.restore(run.state))


def play(name: str) -> None:
    folder = OUT / name.split("_", maxsplit=1)[0] if name.startswith("exact") else OUT / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("gloo", init_method=f"file://{OUT}/{name}.store", rank=RANK, world_size=SIZE)
    try:
        said = SCENES[name](folder)
    except Leaving as leaving:
        said = json.loads(str(leaving))
    (OUT / f"{name}.{RANK}.json").write_text(json.dumps(said))
    os._exit(0)


def main() -> None:
    torch.set_num_threads(1)
    assert perdure.Checkpointer
    assert perdure.State
    for name in os.environ["SCENES"].split(","):
        child = os.fork()
        if child == 0:
            try:
                play(name)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        until = time.monotonic() + 60
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
