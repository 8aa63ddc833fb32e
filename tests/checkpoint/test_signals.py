"""Signals that ask for a checkpoint and a stop."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_is_granted_at_the_next_step(name: str, new_run: Callable[..., Any], tmp_path: Path) -> None:
    run, number = new_run(), getattr(signal, name)
    before = signal.getsignal(number)
    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=100)) as ckpt:
        assert not ckpt.save(1, run.state)
        os.kill(os.getpid(), number)
        assert not ckpt.stop_requested, "not before the checkpoint is durable"
        assert ckpt.save(2, run.state)
        assert [info.step for info in perdure.checkpoints(tmp_path)] == [2]
        assert ckpt.stop_requested
        assert not ckpt.save(3, run.state), "once is enough"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("first", [0, 1])
def test_a_signal_is_for_all_that_are_open(first: int, new_run: Callable[..., Any], tmp_path: Path) -> None:
    before, run = signal.getsignal(signal.SIGTERM), new_run()
    open_ones = [perdure.Checkpointer(tmp_path / name) for name in "ab"]
    perdure.Checkpointer(tmp_path / "dropped")
    os.kill(os.getpid(), signal.SIGTERM)
    assert [one.save(1, run.state) for one in open_ones] == [True, True]
    assert [one.stop_requested for one in open_ones] == [True, True]
    open_ones.pop(first).close()
    assert signal.getsignal(signal.SIGTERM) != before, "the other one still listens"
    open_ones.pop().close()
    gc.collect()
    assert signal.getsignal(signal.SIGTERM) == before


def test_nobody_is_left_who_would_swallow_a_signal(tmp_path: Path) -> None:
    program = "import os, signal, sys, perdure; perdure.Checkpointer(sys.argv[1]); os.kill(os.getpid(), signal.SIGTERM)"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=120, check=False)
    assert done.returncode == -signal.SIGTERM


def test_a_forked_child_dies_of_the_signal(tmp_path: Path) -> None:
    told, tell = os.pipe()
    with perdure.Checkpointer(tmp_path):
        child = os.fork()
        if child == 0:
            os.write(tell, b"!")
            time.sleep(30)
            os._exit(0)
        os.read(told, 1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    os.close(told)
    os.close(tell)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def elsewhere() -> None:
        with perdure.Checkpointer(tmp_path):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]
