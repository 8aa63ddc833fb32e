from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    assert lines[2].endswith("committed  loss=0.5")


def test_the_footer_says_who_compares_bytes(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = three / "checkpoint-2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert ls(three) == 0
    assert capsys.readouterr().err == f"Sizes were compared. The bytes, too: perdure verify {three}\n"


def test_of_a_trainers_metrics_those_that_rate(
    new_run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged = {"grad_norm": 1.0, "learning_rate": 1e-3, "mean_token_accuracy": 0.5, "eval_runtime": 9.0, "loss": 2.0}
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, new_run().state, metrics={**logged, "entropy": 3.0, "eval_loss": 1.5}, force=True)
    assert ls(tmp_path) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.endswith("committed  loss=2  eval_loss=1.5  entropy=3")
    assert ls(tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["metrics"]["learning_rate"] == 1e-3


def test_a_checkpoint_that_is_gone_and_a_parent_of_runs(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ls(three / "checkpoint-9") == 2
    assert f"perdure ls {three}" in capsys.readouterr().err
    for command, hint in (("verify", f"such as {three}"), ("export", f"such as {three}")):
        with pytest.raises(SystemExit):
            run([command, str(three.parent), *(["out"] if command == "export" else [])])
        assert hint in capsys.readouterr().err


def test_a_damaged_one_is_exported_from_another(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (2, 3):
        weights = three / f"checkpoint-{step}" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(SystemExit):
        run(["export", str(three / "checkpoint-3"), "out"])
    assert f"newest that is whole: perdure export {three / 'checkpoint-1'} out" in capsys.readouterr().err


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
