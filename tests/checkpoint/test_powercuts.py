"""Saves of a run are recorded, call by call, and the power fails after each: the old or the new is there, whole."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from powercut import PowerCut, Recorder, Tree, put, tree_in

import perdure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="waits for Linux, whose /proc names descriptors")

BY_CHANCE = int(os.environ.get("PERDURE_POWER_CUTS", "8"))  # outcomes tried of each cut, beside the three extremes


def train(folder: Path, recorder: Recorder, run: Any, until: int) -> None:
    """Save at each step, the oldest of three going each time; `durable` is noted when we are told so."""
    keep = perdure.Keep(last=2)
    with perdure.Checkpointer(folder, save=perdure.Every(steps=1), keep=keep) as ckpt:
        for step in range(ckpt.restore(run.state) + 1, until + 1):
            run.optimizer.step()
            ckpt.save(step, run.state)
            ckpt.wait()
            recorder.note("durable", step)


def judge(tree: Tree, durable: int, begun: int, folder: Path, run: Any) -> None:
    put(tree, folder)
    run_folder = folder / "runs" / "a"
    whole = perdure.checkpoints(run_folder) if run_folder.is_dir() else ()
    assert all(perdure.verify(info.path).ok for info in whole), "what has a checkpoint's name is whole"
    with perdure.Checkpointer(run_folder) as ckpt:
        reached = ckpt.restore(run.state)
        assert durable <= reached <= begun
        assert run.values() == {float(reached)} or reached == 0
        assert ckpt.restored is None or ckpt.restored.skipped == ()
    shutil.rmtree(folder)


def cut_anywhere(recorder: Recorder, folder: Path, run: Any) -> int:
    """Judge what each cut may leave; returns how many different outcomes there were."""
    chance, cut, seen, durable = random.Random(7), PowerCut(), set(), 0
    for number, event in enumerate(recorder.events):
        if event[0] == "durable":
            durable = event[1]
        else:
            cut.play(event)
        for tree in cut.outcomes(chance, BY_CHANCE):
            known = (repr(tree), durable)
            if known not in seen:
                seen.add(known)
                judge(tree, durable, durable + 1, folder / f"cut-{number}", run)
    _, everything, _ = cut.outcomes(chance, 0)
    assert everything == tree_in(folder / "disk"), "the record is complete"
    return len(seen)


def test_the_power_fails_after_each_call(
    new_run: Callable[..., Any], quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = quick_path / "disk"
    root.mkdir()
    with monkeypatch.context() as patch:
        recorder = Recorder(root, patch)
        train(root / "runs" / "a", recorder, new_run(), until=4)
    assert cut_anywhere(recorder, quick_path, new_run()) > 100
    assert [event for event in recorder.events if event[0] == "durable"] == [("durable", step) for step in (1, 2, 3, 4)]


def test_the_power_fails_while_a_damaged_one_is_replaced(
    new_run: Callable[..., Any], quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = quick_path / "disk"
    root.mkdir()
    run_folder = root / "runs" / "a"
    with monkeypatch.context() as patch:
        recorder = Recorder(root, patch)
        train(run_folder, recorder, new_run(), until=2)
        weights = run_folder / "checkpoint-2" / "model.safetensors"
        damaged = bytes([weights.read_bytes()[0] ^ 1])
        with weights.open("r+b") as file:
            file.write(damaged)
        recorder.events = [event for event in recorder.events if event[0] != "durable"]
        path = weights.relative_to(root).as_posix()
        recorder.events += [("write", path, 0, damaged), ("sync", path)]
        first = len(recorder.events)
        train(run_folder, recorder, new_run(), until=2)
    assert "exchange" in {event[0] for event in recorder.events[first:]}
    chance, run, cut = random.Random(8), new_run(), PowerCut()
    for number, event in enumerate(recorder.events):
        if event[0] != "durable":
            cut.play(event)
        if number < first:
            continue
        for tree in cut.outcomes(chance, BY_CHANCE):
            put(tree, quick_path / f"cut-{number}")
            with perdure.Checkpointer(quick_path / f"cut-{number}" / "runs" / "a") as ckpt:
                reached = ckpt.restore(run.state)
            assert reached == 2 or (reached == 1 and event[0] != "durable")
            assert run.values() == {float(reached)}
            shutil.rmtree(quick_path / f"cut-{number}")
