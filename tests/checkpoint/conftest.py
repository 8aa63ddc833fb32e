from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import perdure


class Counting(torch.optim.Optimizer):
    """Writes the number of the step into every parameter, and into a state of its own: no two steps look alike."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state.setdefault("moment", torch.zeros_like(parameter)).add_(1)
                parameter.add_(1)


class Run:
    """A model and its optimizer, and the State of the two."""

    def __init__(self, sizes: tuple[tuple[int, ...], ...] = ((3, 5), (7,))) -> None:
        self.model = torch.nn.ParameterList(torch.zeros(size) for size in sizes)
        self.optimizer = Counting(self.model.parameters())
        self.state = perdure.State(model=self.model, optimizer=self.optimizer)

    def values(self) -> set[float]:
        moments = [state["moment"] for state in self.optimizer.state.values()]
        return {float(value) for tensor in (*self.model, *moments) for value in tensor.detach().unique()}


@pytest.fixture
def new_run() -> Callable[..., Run]:
    return Run


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where the system has one: for what repeats often and proves nothing about a disk."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="perdure-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 1, 2 and 3."""
    run = Run()
    with perdure.Checkpointer(tmp_path / "three", blocking=True) as ckpt:
        for step in (1, 2, 3):
            run.optimizer.step()
            ckpt.save(step, run.state, metrics={"loss": 1 / step}, force=True)
    return tmp_path / "three"
