"""Nothing that reads a checkpoint unpickles: whatever could is poisoned, in Python and below it."""

from __future__ import annotations

import _pickle
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import perdure
from perdure.cli.app import run as command_line


def make() -> tuple[torch.nn.Module, perdure.State, DataLoader[Any]]:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(TensorDataset(torch.rand(8, 2)), batch_size=4, shuffle=True)
    state = perdure.State(
        model=model, optimizer=optimizer, scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9),
        scaler=torch.amp.GradScaler("cpu"), loader=loader,
    )  # fmt: skip
    return model, state, loader


def poison() -> None:
    def poisoned(*args: object, **kwargs: object) -> None:
        raise AssertionError("something unpickles")

    for module in (pickle, _pickle):
        for name in ("Unpickler", "load", "loads"):
            setattr(module, name, poisoned)
    pickle._Unpickler = poisoned  # type: ignore[attr-defined]
    torch.load = poisoned
    torch.serialization.load = poisoned
    torch._weights_only_unpickler.Unpickler = poisoned  # type: ignore[misc,assignment]
    torch.jit.load = poisoned

    def watch(event: str, arguments: object) -> None:
        if event == "pickle.find_class":  # raised by the interpreter itself, whoever unpickles
            poisoned()

    sys.addaudithook(watch)


def in_poisoned_child(action: Callable[[], object]) -> bool:
    """Whether `action` comes to its end; in a process of its own, for an audit hook stays for ever."""
    child = os.fork()
    if child == 0:
        try:
            poison()
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model, state, loader = make()
    (batch,) = next(iter(loader))
    model(batch)
    with perdure.Checkpointer(tmp_path / "run") as ckpt:
        ckpt.save(1, state, force=True, metrics={"loss": 1.0})
    return tmp_path / "run" / "checkpoint-1"


def restore(checkpoint: Path) -> None:
    _, state, loader = make()
    with perdure.Checkpointer(checkpoint.parent) as ckpt:
        assert ckpt.restore(state) == 1
    assert len(next(iter(loader))[0]) == 4


def read(checkpoint: Path) -> None:
    assert perdure.open_weights(checkpoint)["0.weight"].shape == (3, 2)


PATHS: dict[str, Callable[[Path], object]] = {
    "restore": restore,
    "verify": lambda path: perdure.verify(path).raise_for_problems(),
    "checkpoints": lambda path: perdure.checkpoints(path.parent),
    "export": lambda path: perdure.export(path, path.parent.parent / "out"),
    "open_weights": read,
}


@pytest.mark.parametrize("name", PATHS)
def test_no_load_path_unpickles(name: str, checkpoint: Path) -> None:
    assert in_poisoned_child(lambda: PATHS[name](checkpoint))


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_no_command_unpickles(command: str, checkpoint: Path) -> None:
    def run() -> None:
        with pytest.raises(SystemExit) as stop:
            command_line([command, str(checkpoint.parent)])
        assert stop.value.code == 0

    assert in_poisoned_child(run)


@pytest.mark.parametrize("load", [pickle.loads, _pickle.loads])
def test_the_poison_works(load: Callable[[bytes], object]) -> None:
    data = pickle.dumps(Path)
    assert not in_poisoned_child(lambda: load(data)), "below Python's names, too"


def test_a_pickle_in_a_document_stays_bytes(checkpoint: Path) -> None:
    assert not [path for path in checkpoint.rglob("*") if path.is_file() and path.read_bytes()[:2] == b"\x80\x04"]
    assert {path.suffix for path in checkpoint.rglob("*") if path.is_file()} == {".json", ".safetensors"}
