"""`State.from_accelerator`: what is in it, and which traps it tells of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import perdure


@pytest.fixture
def accelerator() -> Any:
    return accelerate.Accelerator(cpu=True)


def prepare(accelerator: Any) -> Any:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    loader = DataLoader(TensorDataset(torch.zeros(4, 2)), batch_size=2)
    return accelerator.prepare(model, optimizer, scheduler, loader)


def test_all_that_was_prepared_or_registered_is_in_it(accelerator: Any) -> None:
    prepare(accelerator)
    other = accelerator.prepare(torch.nn.Linear(3, 3))
    registered = torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD(other.parameters(), lr=1.0), lambda step: 1.0)
    accelerator.register_for_checkpointing(registered)
    mine = torch.nn.Linear(1, 1)
    state = perdure.State.from_accelerator(accelerator, average=mine)
    assert list(state.components) == [
        "model", "model_2", "optimizer", "scheduler", "loader", "custom", "accelerator", "average", "rng",
    ]  # fmt: skip
    assert (state.components["model_2"], state.components["custom"]) == (other, registered)


def test_where_accumulation_stands_comes_back(accelerator: Any, tmp_path: Path) -> None:
    prepare(accelerator)
    state = perdure.State.from_accelerator(accelerator)
    accelerator.step = 5
    with perdure.Checkpointer(tmp_path, blocking=True) as ckpt:
        ckpt.save(1, state, force=True)
        accelerator.step = 0
        assert ckpt.restore(state) == 1
    assert accelerator.step == 5


@pytest.mark.parametrize("taken", [3, 4])
def test_a_save_amid_an_accumulation_resumes_exactly(taken: int, tmp_path: Path) -> None:
    def train(begin: int, end: int, run: str) -> Any:
        torch.manual_seed(begin)
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=3)
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loader = DataLoader(TensorDataset(torch.arange(36.0).reshape(18, 2) / 36), batch_size=2)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        state = perdure.State.from_accelerator(accelerator)
        with perdure.Checkpointer(tmp_path / run) as ckpt:
            assert begin == 0 or ckpt.restore(state) == begin
            for number, (batch,) in enumerate(loader, begin + 1):
                with accelerator.accumulate(model):
                    accelerator.backward(model(batch).square().sum())
                    optimizer.step()
                    optimizer.zero_grad()
                if number == end:
                    ckpt.save(number, state, force=True)
                    break
        return model.weight.tolist()

    train(0, taken, "interrupted")
    resumed = train(taken, 8, "interrupted")
    assert resumed == train(0, 8, "uninterrupted")


def test_wrong_calls_are_told(accelerator: Any) -> None:
    with pytest.raises(perdure.InvalidInput, match="prepared no model") as caught:
        perdure.State.from_accelerator(accelerator)
    assert "accelerator.prepare" in caught.value.hint
    prepare(accelerator)
    with pytest.raises(perdure.InvalidInput, match="called loader, too"):
        perdure.State.from_accelerator(accelerator, loader=torch.nn.Linear(1, 1))


def test_what_is_no_accelerator_and_what_is_no_component() -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(perdure.InvalidInput, match=r"a Linear, not an accelerate\.Accelerator"):
        perdure.State.from_accelerator(model)
    with pytest.raises(perdure.InvalidInput, match="has no state_dict") as caught:
        perdure.State(model=model.state_dict())
    assert "the object itself" in caught.value.hint


def test_processes_that_know_nothing_of_each_other_are_refused(
    accelerator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(accelerator)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        perdure.InvalidInput, match="2 processes were launched, and this Accelerator knows of one"
    ) as it:
        perdure.State.from_accelerator(accelerator)
    assert "Accelerator(cpu=True)" in it.value.hint


def test_a_launcher_that_starts_one_process_where_two_were_wanted_is_told_of(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import torch, perdure\nfrom accelerate import Accelerator\n"
        "accelerator = Accelerator()\naccelerator.prepare(torch.nn.Linear(1, 1))\n"
        "perdure.State.from_accelerator(accelerator)\n"
    )
    said = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", program],
        capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).stderr  # fmt: skip
    assert "was asked for 2 processes, and started one" in said
