"""A run that is killed again and again equals one that never was, bit for bit."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import perdure

if TYPE_CHECKING:
    from conftest import Runs

CASES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd with momentum, accumulation": {"optimizer": "sgd", "accumulate": 3},
    "bf16 autocast": {"autocast": True, "width": 256},
    "2 workers": {"workers": 2},
    "2 workers, sgd, accumulation": {"workers": 2, "optimizer": "sgd", "accumulate": 2},
    "stream": {"stream": True},
    "stream, 2 workers": {"stream": True, "workers": 2, "autocast": True},
}


def lines(report: Path) -> list[dict[str, Any]]:
    text = report.read_text() if report.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


@pytest.mark.parametrize("case", CASES)
def test_killed_three_times_within_an_epoch(case: str, runs: Runs, tmp_path: Path) -> None:
    options = CASES[case]
    assert runs.run(tmp_path / "whole", tmp_path / "whole.jsonl", **options)
    uninterrupted = {line["step"]: line["losses"] for line in lines(tmp_path / "whole.jsonl")}
    assert len(uninterrupted) == 24

    chance, report = random.Random(case), tmp_path / "killed.jsonl"
    for kill_at in (3, 7, 12):  # an epoch has 15 batches

        def reached(kill_at: int = kill_at) -> bool:
            seen = report.read_bytes().count(b"\n") if report.exists() else 0
            if seen >= kill_at:
                time.sleep(chance.random() * 0.02)  # anywhere in the saves that follow
            return seen >= kill_at

        runs.run(tmp_path / "killed", report, kill_when=reached, **options)
    assert runs.run(tmp_path / "killed", report, **options)
    for line in lines(report):
        assert line["losses"] == uninterrupted[line["step"]], line["step"]
    assert {line["step"] for line in lines(report)} == set(uninterrupted)
    assert report.with_suffix(".end").read_text() == (tmp_path / "whole.end").read_text()
    for info in perdure.checkpoints(tmp_path / "killed"):
        assert info.state == "whole"


def test_sigterm_saves_and_the_run_resumes_exactly(runs: Runs, tmp_path: Path) -> None:
    assert runs.run(tmp_path / "whole", tmp_path / "whole.jsonl")
    report = tmp_path / "stopped.jsonl"
    assert runs.run(tmp_path / "stopped", report, stop_at=11)
    assert [line["step"] for line in lines(report)] == list(range(1, 12)), "it left the loop right after"
    assert perdure.checkpoints(tmp_path / "stopped")[-1].step == 11
    assert runs.run(tmp_path / "stopped", report)
    assert lines(report) == lines(tmp_path / "whole.jsonl")
    assert report.with_suffix(".end").read_text() == (tmp_path / "whole.end").read_text()


def test_killed_at_random_instants_there_is_always_something_to_resume(runs: Runs, tmp_path: Path) -> None:
    chance, report, run = random.Random(4), tmp_path / "run.jsonl", tmp_path / "run"
    newest = 0
    for _ in range(12):
        until = time.monotonic() + 0.05 + chance.random() * 0.3
        runs.run(run, report, kill_when=lambda until=until: time.monotonic() > until, total=10**6, width=512)  # type: ignore[misc]
        whole = [info for info in perdure.checkpoints(run) if info.state == "whole"] if run.exists() else []
        assert not run.exists() or len(whole) == len(perdure.checkpoints(run)), "no half written one has a name"
        assert (whole[-1].step if whole else 0) >= newest
        newest = whole[-1].step if whole else 0
        assert all(perdure.verify(info.path).ok for info in whole)
    assert newest > 5
