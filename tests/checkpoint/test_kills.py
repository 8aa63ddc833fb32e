"""A checkpointing process is killed before each of its system calls that matter; what it leaves can be resumed from."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import perdure
from perdure.io import disk

POINTS = ("fsync", "rename", "mkdir", "rmdir", "unlink", "write", "pwritev", "pwrite", "posix_fallocate", "ftruncate")


def run_until(kill_at: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that dies by SIGKILL at its `kill_at`th point; whether it lived to the end."""
    child = os.fork()
    if child == 0:
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

        try:
            for point in POINTS:
                setattr(os, point, armed(getattr(os, point)))
            for name in ("write", "allocate", "fsync"):
                setattr(disk.Disk, name, armed(getattr(disk.Disk, name)))
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFEXITED(status)


def test_killed_anywhere_the_old_or_the_new_is_whole(new_run: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = new_run()
    keep = perdure.Keep(last=1)

    def go_on(until: int) -> None:
        again = new_run()
        with perdure.Checkpointer(folder, save=perdure.Every(steps=1), keep=keep) as ckpt:
            for step in range(ckpt.restore(again.state), until):
                again.optimizer.step()
                ckpt.save(step + 1, again.state)

    step, kill_at, survived = 0, 0, False
    while not survived:
        kill_at += 1
        survived = run_until(kill_at, lambda until=step + 1: go_on(until))  # type: ignore[misc]
        with perdure.Checkpointer(folder, keep=keep) as ckpt:
            reached = ckpt.restore(run.state)
        assert step <= reached <= step + 1
        assert run.values() == {float(reached)} or reached == 0
        if folder.exists():
            assert {info.state for info in perdure.checkpoints(folder)} <= {"whole"}
        step = reached
    assert kill_at > 30
    assert [path.name for path in folder.iterdir()] == [f"checkpoint-{step}"], "leftovers of the dead are collected"
