"""The optimizer writes the step's number everywhere, and every step is saved: a torn snapshot shows two numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

import perdure
from perdure.io import locks
from perdure.io.digest import CHUNK

SMALL = ((300, 200), (17,), (1000,))
LARGE = ((CHUNK // 8, 5), (9,))


def check(info: perdure.CheckpointInfo) -> None:
    files = [info.path / "model.safetensors", info.path / "training_state" / "optimizer.safetensors"]
    with locks.pinned(info.path):
        for file in files:
            for name, array in load_file(file).items():
                assert (array == info.step).all(), f"{file}: {name} is of another step than {info.step}"


def test_no_snapshot_of_a_thousand_is_torn(new_run: Callable[..., Any], quick_path: Path) -> None:
    run, again = new_run(SMALL), new_run(SMALL)
    keep, steps, seen = perdure.Keep(last=2), 1000, 0
    with perdure.Checkpointer(quick_path, save=perdure.Every(steps=1), keep=keep) as ckpt:
        for step in range(1, steps + 1):
            run.optimizer.step()
            assert ckpt.save(step, run.state)
            if step > 1:  # its predecessor is in place
                newest = perdure.checkpoints(quick_path)[-1]
                assert newest.step >= step - 1
                check(newest)
                seen += 1
            if step % 100 == 0:
                with perdure.Checkpointer(quick_path) as other:
                    reached = other.restore(again.state)
                assert reached in (step - 1, step)
                assert again.values() == {float(reached)}
    assert seen == steps - 1
    assert [record.step for record in ckpt.saves] == list(range(1, steps + 1))
    newest = perdure.checkpoints(quick_path)[-1]
    assert newest.step == steps
    check(newest)
    assert all(perdure.verify(info.path).ok for info in perdure.checkpoints(quick_path))


@pytest.mark.parametrize(
    ("sizes", "steps", "memory"),
    [
        pytest.param(SMALL, 30, 2**27, id="small, on a disk"),
        pytest.param(LARGE, 12, 2**27, id="several chunks"),
        pytest.param(LARGE, 8, 2**24, id="no memory to spare"),
    ],
)
def test_no_snapshot_is_torn(
    sizes: tuple[tuple[int, ...], ...], steps: int, memory: int, new_run: Callable[..., Any], tmp_path: Path
) -> None:
    run, seen = new_run(sizes), 0
    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=1), memory=memory) as ckpt:
        for step in range(1, steps + 1):
            run.optimizer.step()
            ckpt.save(step, run.state)
            for info in perdure.checkpoints(tmp_path)[:-1]:
                check(info)
                shutil.rmtree(info.path)
                seen += 1
    for info in perdure.checkpoints(tmp_path):
        check(info)
        seen += 1
    assert seen == steps
    assert len(ckpt.saves) == steps


def test_a_parameter_out_of_order_is_not_torn_either(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run(((64, 3, 8, 8), (5,)))
    run.model[0].data = run.model[0].data.to(memory_format=torch.channels_last)
    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=1)) as ckpt:
        for step in range(1, 30):
            run.optimizer.step()
            ckpt.save(step, run.state)
    for info in perdure.checkpoints(tmp_path):
        check(info)
    fresh = new_run(((64, 3, 8, 8), (5,)))
    fresh.model[0].data = fresh.model[0].data.to(memory_format=torch.channels_last)
    with perdure.Checkpointer(tmp_path) as ckpt:
        assert ckpt.restore(fresh.state) == 29
    assert fresh.values() == {29.0}
