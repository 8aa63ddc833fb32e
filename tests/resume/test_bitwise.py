"""A run that is killed again and again equals one that never was, bit for bit."""

from __future__ import annotations

import itertools
import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import perdure

if TYPE_CHECKING:
    from conftest import Runs


def cases() -> dict[str, dict[str, Any]]:
    """Every optimizer with every way of loading, and accumulation and autocast with each of these in turn."""
    found: dict[str, dict[str, Any]] = {}
    ways = itertools.product(("adamw", "sgd"), (False, True), (0, 2))
    for number, (optimizer, stream, workers) in enumerate(ways):
        for autocast in (False, True):
            accumulate = 1 + (number + autocast) % 2 * 2
            name = f"{optimizer}, {'stream' if stream else 'shuffled'}, {workers} workers"
            name += ", bfloat16" * autocast + f", {accumulate} batches a step" * (accumulate > 1)
            found[name] = {
                "optimizer": optimizer, "stream": stream, "workers": workers, "autocast": autocast,
                "accumulate": accumulate,
            }  # fmt: skip
    return found


CASES = cases()


def lines(report: Path) -> list[dict[str, Any]]:
    text = report.read_text() if report.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


@pytest.mark.parametrize("case", CASES)
def test_killed_three_times_within_an_epoch(case: str, runs: Runs, tmp_path: Path) -> None:
    options = CASES[case]
    assert runs.run(tmp_path / "whole", tmp_path / "whole.jsonl", **options)
    uninterrupted = {line["step"]: line for line in lines(tmp_path / "whole.jsonl")}
    assert len(uninterrupted) == 24

    chance, report = random.Random(case), tmp_path / "killed.jsonl"
    epoch = 15 // options["accumulate"]  # of 15 batches
    for kill_at in (epoch // 5, epoch // 5 + 2, epoch - 1):

        def reached(kill_at: int = kill_at) -> bool:
            seen = report.read_bytes().count(b"\n") if report.exists() else 0
            if seen >= kill_at:
                time.sleep(chance.random() * 0.02)  # anywhere in the saves that follow
            return seen >= kill_at

        runs.run(tmp_path / "killed", report, kill_when=reached, **options)
    assert runs.run(tmp_path / "killed", report, **options)
    for line in lines(report):
        assert line == uninterrupted[line["step"]], line["step"]
    assert {line["step"] for line in lines(report)} == set(uninterrupted)
    assert report.with_suffix(".end").read_text() == (tmp_path / "whole.end").read_text()
    for info in perdure.checkpoints(tmp_path / "killed"):
        assert info.state == "whole"


@pytest.mark.parametrize(("stop_by", "options"), [("SIGTERM", {}), ("SIGUSR1", {"workers": 2, "autocast": True})])
def test_a_signal_saves_and_the_run_resumes_exactly(
    stop_by: str, options: dict[str, Any], runs: Runs, tmp_path: Path
) -> None:
    assert runs.run(tmp_path / "whole", tmp_path / "whole.jsonl", **options)
    report = tmp_path / "stopped.jsonl"
    assert runs.run(tmp_path / "stopped", report, stop_at=11, stop_by=stop_by, **options)
    assert [line["step"] for line in lines(report)] == list(range(1, 12)), "it left the loop right after"
    assert perdure.checkpoints(tmp_path / "stopped")[-1].step == 11
    assert runs.run(tmp_path / "stopped", report, **options)
    assert lines(report) == lines(tmp_path / "whole.jsonl")
    assert report.with_suffix(".end").read_text() == (tmp_path / "whole.end").read_text()
