"""Any one bit of any file of a checkpoint is flipped: it is found by `verify` and by `restore`, named, and passed over.

`PERDURE_FLIPS=100000` tries more of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from counting import Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import perdure
from perdure.format.header import read_header

FLIPS = int(os.environ.get("PERDURE_FLIPS", "400"))


class Saved:
    """The checkpoints of steps 1 and 2 of a run with documents, buffers and a scheduler, and what the newer holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = self._make()
        with perdure.Checkpointer(folder, blocking=True) as ckpt:
            for step in (1, 2):
                self.run.optimizer.step()
                ckpt.save(step, self.run.state, force=True, epoch=step / 2, metrics={"loss": 1 / step})
        self.newest = folder / "checkpoint-2"
        self.files = sorted(path for path in self.newest.rglob("*") if path.is_file())

    @staticmethod
    def _make() -> Run:
        run = Run()
        run.model.register_buffer("seen", torch.zeros(3))
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD(run.model, lr=1.0), 10)
        run.state = perdure.State(model=run.model, optimizer=run.optimizer, scheduler=scheduler)
        return run


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    folder = tmp_path_factory.mktemp("flips")
    yield Saved(folder / "run")
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Flip:
    path: Path
    bit: int

    @property
    def tensor(self) -> str | None:
        """The tensor that the bit lies in."""
        if self.path.suffix != ".safetensors":
            return None
        header = read_header(self.path)
        place = self.bit // 8 - header.length
        return next((name for name, info in header.tensors.items() if info.begin <= place < info.end), None)

    @contextmanager
    def made(self) -> Iterator[None]:
        whole = self.path.read_bytes()
        damaged = bytearray(whole)
        damaged[self.bit // 8] ^= 1 << self.bit % 8
        self.path.write_bytes(damaged)
        try:
            yield
        finally:
            self.path.write_bytes(whole)


def judge(saved: Saved, flip: Flip) -> None:
    name, tensor = flip.path.relative_to(saved.newest).as_posix(), flip.tensor
    with flip.made():
        try:
            problems = perdure.verify(saved.newest).problems
        except (perdure.Corrupt, perdure.UnsupportedFormat) as error:
            assert name == "perdure.json"
            assert name in error.message
        else:
            assert [problem.path for problem in problems] == [name]
            assert tensor is None or [problem.tensor for problem in problems] == [tensor]
        with perdure.Checkpointer(saved.folder) as ckpt:
            assert ckpt.restore(saved.run.state) == 1
        assert saved.run.values() == {1.0}
        assert ckpt.restored is not None
        (skipped,) = ckpt.restored.skipped
        assert skipped.path == saved.newest
        assert name in skipped.reason
        assert tensor is None or f": {tensor} is not what was saved" in skipped.reason


@settings(max_examples=FLIPS, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_single_bit_counts(data: Any, saved: Saved) -> None:
    path = data.draw(st.sampled_from(saved.files))
    judge(saved, Flip(path, data.draw(st.integers(0, path.stat().st_size * 8 - 1))))


def test_the_first_and_the_last_bits_of_each_file_count(saved: Saved) -> None:
    assert {"perdure.json", "model.safetensors", "optimizer.safetensors", "rng.json"} <= {p.name for p in saved.files}
    for path in saved.files:
        for bit in (*range(0, 80, 9), path.stat().st_size * 8 - 1):
            judge(saved, Flip(path, bit))
    with perdure.Checkpointer(saved.folder) as ckpt:
        assert ckpt.restore(saved.run.state) == 2, "nothing else was damaged"
