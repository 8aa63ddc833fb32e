"""Loops written with Accelerate, by itself and under torchrun: killed, stopped and resumed, they are the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import played

import perdure

SCENES = ("whole", "exact_1_killed", "exact_2_stopped", "exact_3_to_the_end")


@pytest.mark.parametrize("count", [1, 2])
def test_killed_then_stopped_then_resumed_equals_uninterrupted(count: int, tmp_path: Path) -> None:
    said = played(tmp_path, count, SCENES, "accelerated.py")
    killed, stopped, last = (said[name] for name in SCENES[1:])
    assert killed[-1] is None, "it was killed"
    for rank, uninterrupted in enumerate(said["whole"]):
        began = stopped[rank]["began"]
        assert (began, stopped[rank]["ended"]) in ((2, 5), (0, 5)), "one process may die before its save was durable"
        assert (last[rank]["began"], last[rank]["ended"]) == (5, 9)
        seen = {**stopped[rank]["seen"], **last[rank]["seen"]}
        assert seen == {step: losses for step, losses in uninterrupted["seen"].items() if int(step) >= began}
        assert last[rank]["everything"] == uninterrupted["everything"]
    newest = perdure.checkpoints(tmp_path / "exact")[-1].path
    assert (newest / "training_state" / "rank-00001" / "custom.json").exists() == (count == 2)
