from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from counting import Run

import perdure


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
