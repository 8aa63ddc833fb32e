"""An attached Trainer under torchrun: killed on one rank, stopped on one rank, and resumed, it is the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import played

import perdure

EXACT = ("whole", "exact_1_killed", "exact_2_stopped", "exact_3_to_the_end")


@pytest.mark.parametrize("count", [2, 4])
def test_killed_then_stopped_then_resumed_equals_uninterrupted(count: int, tmp_path: Path) -> None:
    said = played(tmp_path, count, (*EXACT, "a_disk_is_full")[: 5 if count == 2 else 4], "trained.py")
    killed, stopped, last = (said[name] for name in EXACT[1:])
    assert killed[1] is None, "it was killed"
    for rank, uninterrupted in enumerate(said["whole"]):
        assert uninterrupted["told"] == [2, 4, 6, 8]
        assert (stopped[rank]["began"], stopped[rank]["ended"], stopped[rank]["stopped"]) == (2, 5, True)
        assert (last[rank]["began"], last[rank]["ended"], last[rank]["stopped"]) == (5, 8, False)
        assert last[rank]["losses"] == uninterrupted["losses"]
        assert last[rank]["everything"] == uninterrupted["everything"]
    kept = perdure.checkpoints(tmp_path / "exact")
    assert [(info.step, info.state) for info in kept] == [(6, "whole"), (8, "whole")]
    if count == 2:
        for one in said["a_disk_is_full"]:
            assert (one["error"], one["rank"]) == ("SaveFailed", 0)
            assert "No space left" in one["message"]
        assert [info.step for info in perdure.checkpoints(tmp_path / "a_disk_is_full")] == [2]


def test_save_on_each_node_is_one_copy_that_all_see_or_an_error(tmp_path: Path) -> None:
    said = played(tmp_path, 2, ("whole", "each_node_shared", "each_node_apart"), "trained.py")
    assert said["each_node_shared"] == said["whole"]
    kept = perdure.checkpoints(tmp_path / "each_node_shared")
    assert [info.step for info in kept] == [6, 8]
    assert all(perdure.verify(info.path).ok for info in kept)
    for rank, one in enumerate(said["each_node_apart"]):
        assert one["error"] == "InvalidInput"
        assert "separate disks" in one["message"]
        assert "save_on_each_node" in one["message"]
        assert perdure.checkpoints(tmp_path / "each_node_apart" / str(rank)) == ()
