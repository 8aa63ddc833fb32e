"""`perdure verify` and `perdure ls` on a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perdure.cli.app import run


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        run([*map(str, arguments)])
    output = capsys.readouterr()
    return int(stop.value.code or 0), output.out, output.err


def flip_last_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_every_checkpoint_is_compared(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = command(capsys, "verify", three)
    assert code == 0
    assert shown.splitlines()[-1] == f"{three}: 3 of 3 checkpoints are whole"


def test_the_damaged_ones_are_named(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip_last_byte(three / "checkpoint-1" / "perdure.json")
    flip_last_byte(three / "checkpoint-2" / "model.safetensors")
    code, shown, _ = command(capsys, "verify", three)
    assert code == 1
    assert f"{three}/checkpoint-1: NOT what was saved" in shown
    assert f"{three}/checkpoint-2: changed: model.safetensors: 1" in shown
    assert f"{three}/checkpoint-3: whole" in shown
    code, shown, _ = command(capsys, "verify", three, "--json")
    assert code == 1
    found = json.loads(shown)
    assert [(one["step"], one["ok"]) for one in found["checkpoints"]] == [(1, False), (2, False), (3, True)]
    assert found["checkpoints"][0]["kind"] == "corrupt"
    assert found["checkpoints"][1]["problems"][0]["tensor"] == "1"


def test_strict_counts_what_somebody_added(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (three / "checkpoint-2" / "notes.md").write_text("mine")
    assert command(capsys, "verify", three)[0] == 0
    code, shown, _ = command(capsys, "verify", three, "--strict")
    assert code == 1
    assert "checkpoint-2: extra: notes.md" in shown


def test_accepting_is_for_one_folder(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = command(capsys, "verify", three, "--accept", "README.md")
    assert code == 2
    assert "name a checkpoint" in told


def test_a_run_that_cannot_be_read_is_told(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.iterdir

    def refused(path: Path) -> object:
        if path == three:
            raise PermissionError(13, "Permission denied")  # chmod does not bind everybody who runs tests
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    code, _, told = command(capsys, "ls", three)
    assert code == 2
    assert "cannot be read: Permission denied" in told
