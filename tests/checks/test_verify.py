from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import torch

import perdure
from perdure.cli.app import run


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.config = {"size": 4}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return perdure.save_model(Tiny(), tmp_path / "out", extra_files={"README.md": b"# Tiny\n"}).path


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_saved_folder_is_whole(out: Path) -> None:
    found = perdure.verify(out)
    assert found.ok
    assert found.files == 3
    assert found.nbytes == sum(path.stat().st_size for path in out.iterdir() if path.name != "perdure.json")
    found.raise_for_problems()


def test_the_tensor_that_is_wrong_is_named(out: Path) -> None:
    size = (out / "model.safetensors").stat().st_size
    flip(out / "model.safetensors", size * 8 - 1)
    problems = perdure.verify(out).problems
    assert [(problem.path, problem.tensor) for problem in problems] == [("model.safetensors", "second.weight")]
    with pytest.raises(perdure.Corrupt, match=r"second\.weight") as caught:
        perdure.verify(out).raise_for_problems()
    assert caught.value.tensor == "second.weight"
    assert caught.value.path == out / "model.safetensors"


def test_every_flipped_bit_in_any_file_is_found(out: Path) -> None:
    pick = random.Random(0)
    for path in sorted(out.iterdir()):
        bits = path.stat().st_size * 8
        for bit in sorted(pick.sample(range(bits), min(bits, 250))):
            flip(path, bit)
            try:
                found = perdure.verify(out)
            except (perdure.Corrupt, perdure.UnsupportedFormat):
                assert path.name == "perdure.json"
            else:
                assert [problem.path for problem in found.problems] == [path.name]
            flip(path, bit)
    assert perdure.verify(out).ok


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_cut_or_missing_file(out: Path, damage: bytes | None) -> None:
    for name in ("config.json", "model.safetensors"):
        path = out / name
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
    kinds = {problem.path: problem.kind for problem in perdure.verify(out).problems}
    assert kinds == dict.fromkeys(("config.json", "model.safetensors"), "missing" if damage is None else "changed")


def test_a_file_that_is_no_file_does_not_block(out: Path) -> None:
    (out / "config.json").unlink()
    os.mkfifo(out / "config.json")
    assert [problem.path for problem in perdure.verify(out).problems] == ["config.json"]


def test_extra_files(out: Path) -> None:
    (out / "model-00001-of-00002.safetensors").write_bytes(b"stale")
    (out / "notes.md").write_text("mine")
    (out / "checkpoint-1").mkdir()
    (out / "checkpoint-1" / "model.safetensors").write_bytes(b"x")
    (out / "training_args.bin").write_bytes(b"x")
    found = perdure.verify(out)
    assert [(problem.kind, problem.path) for problem in found.problems] == [
        ("extra", "model-00001-of-00002.safetensors")
    ]
    assert found.extra == ("checkpoint-1/model.safetensors", "notes.md", "training_args.bin")


def test_a_copy_elsewhere_and_a_folder_of_links_verify_too(out: Path, tmp_path: Path) -> None:
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for path in out.iterdir():
        (linked / path.name).symlink_to(path)
    assert perdure.verify(linked).ok


def command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    output = capsys.readouterr()
    return int(stop.value.code or 0), output.out, output.err


def test_command(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = command(["verify", str(out)], capsys)
    assert code == 0
    assert "whole" in shown
    flip(out / "model.safetensors", (out / "model.safetensors").stat().st_size * 8 - 1)
    code, shown, _ = command(["verify", str(out)], capsys)
    assert code == 1
    assert "changed: model.safetensors: second.weight" in shown
    code, shown, _ = command(["verify", str(out), "--json"], capsys)
    assert code == 1
    assert json.loads(shown)["problems"][0]["tensor"] == "second.weight"


def test_command_strict_and_accept(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "notes.md").write_text("mine")
    assert command(["verify", str(out)], capsys)[0] == 0
    assert command(["verify", str(out), "--strict"], capsys)[0] == 1
    (out / "README.md").write_text("# By hand\n")
    code, shown, hint = command(["verify", str(out)], capsys)
    assert code == 1
    assert "README.md" in shown
    assert "--accept README.md" in hint
    assert command(["verify", str(out), "--accept", "README.md"], capsys)[0] == 0


def test_command_errors(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, message = command(["verify", str(tmp_path / "nothing")], capsys)
    assert code == 2
    assert "not a folder" in message
    flip(out / "perdure.json", 100)
    code, shown, message = command(["verify", str(out), "--json"], capsys)
    assert code == 1
    assert json.loads(shown)["error"]["kind"] == "corrupt"
    assert "damaged" in message
