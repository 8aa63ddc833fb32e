"""The examples with a loop run as their users run them, and go on where they were."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import perdure

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = "".join(f"{n} plus {n + 1} is {2 * n + 1}. " for n in range(400))


def run(name: str, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    torch.manual_seed(0)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def goes_on(name: str, *arguments: object, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps 1 to 4 in one run, and 1 to 2, then 3 to 4, in two: their weights are the same."""
    for output, runs in (("whole", (4,)), ("parts", (2, 4))):
        for steps in runs:
            options = ("--output_dir", folder / output, "--steps", steps, "--save_steps", 2)
            run(name, *arguments, *options, monkeypatch=monkeypatch)
    for output in ("whole", "parts"):
        assert [info.step for info in perdure.checkpoints(folder / output)] == [2, 4]
        assert perdure.verify(folder / output / "checkpoint-4").ok
    found = [load_file(folder / output / "checkpoint-4" / "model.safetensors") for output in ("whole", "parts")]
    assert all(torch.equal(found[0][tensor], found[1][tensor]) for tensor in found[0])


def test_plain_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "book.txt").write_text(TEXT)
    goes_on("plain_torch", tmp_path / "book.txt", folder=tmp_path, monkeypatch=monkeypatch)


def test_short() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path.name


def test_accelerate_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.demo.model import build_model, build_tokenizer
    from perdure.demo.questions import pairs

    tokenizer = build_tokenizer(pairs()[:24])
    build_model(tokenizer, seed=0).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "book.txt").write_text(TEXT)
    options = ("--window", 16, "--cpu")
    goes_on(
        "accelerate_loop", tmp_path / "model", tmp_path / "book.txt", *options, folder=tmp_path, monkeypatch=monkeypatch
    )
