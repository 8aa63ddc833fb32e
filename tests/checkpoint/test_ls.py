from __future__ import annotations

import json
from pathlib import Path

import pytest

import perdure
from perdure.cli.app import run


def ls(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        run(["ls", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_a_table_for_people(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ls(three) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["STEP", "EPOCH", "SAVED", "SIZE", "STATE", "METRICS"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    assert lines[2].endswith("whole  loss=0.5")


def test_json_for_machines(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (three / "checkpoint-2" / "perdure.json").unlink()
    (three / "checkpoint-3" / "model.safetensors").unlink()
    assert ls(three, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [(one["step"], one["state"]) for one in found] == [(1, "whole"), (2, "uncommitted"), (3, "damaged")]
    assert found[0]["metrics"] == {"loss": 1.0}
    assert found[0]["bytes"] == perdure.checkpoints(three)[0].nbytes
    assert "model.safetensors is missing" in found[2]["problem"]


def test_no_run_and_an_empty_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ls(tmp_path / "nowhere") == 2
    assert "is not a folder" in capsys.readouterr().err
    assert ls(tmp_path) == 0
    assert capsys.readouterr().err == f"There are no checkpoints in {tmp_path}.\n"


def test_what_is_no_run_is_told_what_to_type(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = three / "checkpoint-3"
    assert ls(newest) == 0
    assert f"perdure verify {newest}" in capsys.readouterr().err
    assert ls(three.parent) == 0
    assert f"perdure ls {three}" in capsys.readouterr().err


def test_paths_in_json_are_absolute(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(three.parent)
    assert ls(three.name, "--json") == 0
    assert [one["path"] for one in json.loads(capsys.readouterr().out)] == [
        str(three / f"checkpoint-{step}") for step in (1, 2, 3)
    ]
