"""Several processes that train one model: what one of them asks for, meets or suffers is agreed on by all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from launching import played

import perdure

EXACT = ("whole", "exact_1_killed", "exact_2_stopped", "exact_3_to_the_end")
FAULTS = (
    "a_fault_on_one_rank_is_told_on_all",
    "a_rank_dies_while_it_hands_in",
    "a_rank_leaves_with_an_error",
    "separate_disks",
)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    out = tmp_path_factory.mktemp("two")
    return out, played(out, 2, (*EXACT, *FAULTS))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    out = tmp_path_factory.mktemp("four")
    return out, played(out, 4, EXACT)


@pytest.mark.parametrize("count", [2, 4])
def test_killed_then_stopped_then_resumed_equals_uninterrupted(count: int, request: pytest.FixtureRequest) -> None:
    out, said = request.getfixturevalue({2: "two", 4: "four"}[count])
    killed, stopped, last = (said[name] for name in EXACT[1:])
    assert killed[1] is None, "it was killed"
    for rank, uninterrupted in enumerate(said["whole"]):
        assert (stopped[rank]["began"], stopped[rank]["ended"]) == (4, 9), "a signal to one rank stops all at one step"
        assert (last[rank]["began"], last[rank]["ended"]) == (9, 12)
        assert {**stopped[rank]["seen"], **last[rank]["seen"]} == {
            step: losses for step, losses in uninterrupted["seen"].items() if int(step) >= 4
        }
        assert last[rank]["everything"] == uninterrupted["everything"]
    assert len({uninterrupted["everything"] for uninterrupted in said["whole"]}) == count, "no rank draws as another"
    assert [info.step for info in perdure.checkpoints(out / "exact")] == [10, 12]


def test_each_rank_has_a_folder_and_nothing_is_there_twice(two: tuple[Path, dict[str, list[Any]]]) -> None:
    newest = perdure.checkpoints(two[0] / "exact")[-1].path
    assert perdure.verify(newest).ok
    own = {path.name for path in (newest / "training_state" / "rank-00001").iterdir()}
    assert own == {"rng.json", "rng.safetensors", "loader.json", "loader.safetensors", "told.json"}
    assert not (newest / "training_state" / "rank-00002").exists()


def test_a_fault_on_one_rank_is_told_on_all(two: tuple[Path, dict[str, list[Any]]]) -> None:
    for rank, said in enumerate(two[1]["a_fault_on_one_rank_is_told_on_all"]):
        assert said["handing in"]["error"] == "SaveFailed"
        assert said["handing in"]["rank"] == 1
        assert said["handing in"]["message"].startswith("Rank 1: OSError: [Errno 28] No space left")
        assert said["handing in"]["cause"] == ("OSError" if rank == 1 else "NoneType")
        assert said["left by it"] == [1]
        assert said["inexpressible"]["error"] == "InvalidInput"
        assert "Rank 1: " in said["inexpressible"]["message"]
        assert "told" in said["inexpressible"]["message"]
        assert "[2, 3]" in said["another step"]["message"]
        assert (said["writing"]["error"], said["writing"]["rank"]) == ("SaveFailed", 0)
        assert "No space left" in said["writing"]["message"]
        assert said["left by all"] == [1]
        assert said["made up for"] is True
        assert said["in the end"] == [1, 4]


def test_damage_to_one_rank_s_file_sends_all_back_to_the_older(two: tuple[Path, dict[str, list[Any]]]) -> None:
    for rank, said in enumerate(two[1]["a_fault_on_one_rank_is_told_on_all"]):
        assert said["restored"] == 1
        assert "rank-00001/rng.safetensors" in said["skipped"][0]
        assert said["own value"] == {"rank": rank}
        assert said["records"] == (2 if rank == 0 else 0)
        assert said["leftovers"] == []


def test_a_rank_that_dies_holds_nobody_up(two: tuple[Path, dict[str, list[Any]]]) -> None:
    out, said = two
    alive, dead = said["a_rank_dies_while_it_hands_in"]
    assert dead is None
    assert alive["error"] == "SaveFailed"
    assert "no answer from the others" in alive["message"]
    (left,) = perdure.checkpoints(out / "a_rank_dies_while_it_hands_in")
    assert (left.step, left.state) == (1, "whole")


def test_a_rank_that_leaves_with_an_error_waits_for_nobody(two: tuple[Path, dict[str, list[Any]]]) -> None:
    other, leaving = two[1]["a_rank_leaves_with_an_error"]
    assert leaving == "by itself"
    assert other["error"] == "SaveFailed"


def test_ranks_with_separate_disks_are_told(two: tuple[Path, dict[str, list[Any]]]) -> None:
    for said in two[1]["separate_disks"]:
        assert said["error"] == "InvalidInput"
        assert "Rank 1 does not see" in said["message"]
        assert "storage that all machines mount" in said["message"]


def test_another_number_of_processes_is_a_mismatch(
    two: tuple[Path, dict[str, list[Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    model = torch.nn.Sequential(
        torch.nn.Linear(8, 32), torch.nn.BatchNorm1d(32), torch.nn.GELU(), torch.nn.Dropout(0.3), torch.nn.Linear(32, 1)
    )
    state = perdure.State(model=model)
    random = torch.get_rng_state()
    with perdure.Checkpointer(two[0] / "exact") as ckpt:
        with pytest.raises(perdure.StateMismatch, match="saved by 2 processes, and there is 1 here") as caught:
            ckpt.restore(state)
        assert "--nproc-per-node=2" in caught.value.hint
        assert ckpt.restore(state, strict=False) == 12
    assert "saved by 2 processes" in caplog.text
    assert torch.equal(torch.get_rng_state(), random)
