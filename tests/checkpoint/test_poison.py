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
from perdure.io.digest import CHUNK


def check(info: perdure.CheckpointInfo) -> None:
    files = [info.path / "model.safetensors", info.path / "training_state" / "optimizer.safetensors"]
    for file in files:
        for name, array in load_file(file).items():
            assert (array == info.step).all(), f"{file}: {name} is of another step than {info.step}"


@pytest.mark.parametrize(
    ("sizes", "steps", "memory"),
    [
        pytest.param(((300, 200), (17,), (1000,)), 200, 2**27, id="small"),
        pytest.param(((CHUNK // 8, 5), (9,)), 12, 2**27, id="several chunks"),
        pytest.param(((CHUNK // 8, 5), (9,)), 8, 2**23, id="no memory to spare"),
    ],
)
def test_no_snapshot_is_torn(
    sizes: tuple[tuple[int, ...], ...], steps: int, memory: int, new_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = new_run(sizes)
    seen = 0
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
