"""A checkpointing process is killed with SIGKILL: before each system call that matters, and at random instants."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.folder import commit
from perdure.io import aio, disk

POINTS = ("fsync", "rename", "link", "mkdir", "rmdir", "unlink", "write", "pwrite")
KILLS = int(os.environ.get("PERDURE_KILLS", "300"))
KEEP = perdure.Keep(last=2)


def train(folder: Path, run: Any, until: int, told: Callable[[int], object] = lambda step: None) -> None:
    """Resume, and save at each step while the next is taken; `told` hears of each third one that it is durable."""
    with perdure.Checkpointer(folder, save=perdure.Every(steps=1), keep=KEEP) as ckpt:
        for step in range(ckpt.restore(run.state) + 1, until + 1):
            run.optimizer.step()
            ckpt.save(step, run.state)
            if step % 3 == 0:
                ckpt.wait()
                told(step)


def in_child(action: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no child outlives an interrupted test
        try:
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def run_until(kill_at: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that dies by SIGKILL at its `kill_at`th point; whether it lived to the end."""

    def armed_action() -> None:
        counted, lock = 0, threading.Lock()

        def armed(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                nonlocal counted
                with lock:
                    counted += 1
                    if counted == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        for point in POINTS:
            setattr(os, point, armed(getattr(os, point)))
        for name in ("create", "write", "allocate", "fsync"):
            setattr(disk.Disk, name, armed(getattr(disk.Disk, name)))
        for name in ("submit", "wait"):
            setattr(aio.Queue, name, armed(getattr(aio.Queue, name)))
        commit.exchange = armed(commit.exchange)  # type: ignore[assignment]
        action()

    _, status = os.waitpid(in_child(armed_action), 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFEXITED(status)


def resumed(folder: Path, run: Any) -> int:
    """The step that a new process goes on from: of one moment, and nothing that has a checkpoint's name is less."""
    with perdure.Checkpointer(folder, keep=KEEP) as ckpt:
        reached = ckpt.restore(run.state)
        assert ckpt.restored is None or ckpt.restored.skipped == ()
    assert run.values() == {float(reached)} or reached == 0
    if folder.exists():
        assert {info.state for info in perdure.checkpoints(folder)} <= {"whole"}
    return reached


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".") and path.name != ".perdure"]


def test_killed_anywhere_the_old_or_the_new_is_whole(new_run: Callable[..., Any], quick_path: Path) -> None:
    folder, run = quick_path / "run", new_run()
    step, kill_at, survived = 0, 0, False
    while not survived:
        kill_at += 1
        survived = run_until(kill_at, lambda until=step + 1: train(folder, new_run(), until))  # type: ignore[misc]
        reached = resumed(folder, run)
        assert step <= reached <= step + 1
        step = reached
    assert kill_at > 40
    assert leftovers(folder) == [], "those of the dead are collected"


def test_killed_anywhere_while_a_damaged_one_is_replaced(new_run: Callable[..., Any], quick_path: Path) -> None:
    folder, run = quick_path / "run", new_run()
    train(folder, new_run(), 2)
    weights, seen = folder / "checkpoint-2" / "model.safetensors", set()
    kill_at, survived = 0, False
    while not survived:
        kill_at += 1
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
        survived = run_until(kill_at, lambda: train(folder, new_run(), 2))
        with perdure.Checkpointer(folder) as ckpt:
            reached = ckpt.restore(run.state)
        assert run.values() == {float(reached)}
        seen.add(reached)
    assert seen == {1, 2}
    assert kill_at > 30
    assert leftovers(folder) == []


@pytest.mark.parametrize("sizes", [((3, 5), (7,)), ((900, 300), (11,), (2000,))], ids=["small", "larger"])
def test_killed_at_random_instants(
    sizes: tuple[tuple[int, ...], ...], new_run: Callable[..., Any], quick_path: Path
) -> None:
    chance, folder, run = random.Random(str(sizes)), quick_path / "run", new_run(sizes)
    newest = 0
    for number in range(KILLS // 2):
        hear, tell = os.pipe()
        child = in_child(lambda tell=tell: train(folder, new_run(sizes), 10**6, lambda step: os.write(tell, b"!")))
        os.close(tell)
        told = os.read(hear, 1) if number % 2 else b""  # the other half may die as they come to life
        time.sleep(chance.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the run itself failed"
        while more := os.read(hear, 4096):
            told += more
        os.close(hear)
        reached = resumed(folder, run)
        assert reached >= newest // 3 * 3 + 3 * len(told), "what was told to be durable is there"
        newest = reached
    assert newest > KILLS // 2
    assert leftovers(folder) == []
