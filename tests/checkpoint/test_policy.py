from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure
from perdure.checkpoint.policy import Schedule
from perdure.io import locks
from perdure.publishing import publish


@dataclass(frozen=True)
class Saved:
    step: int
    metrics: dict[str, float] = field(default_factory=dict)


def test_steps_are_due_when_a_multiple_is_passed() -> None:
    schedule = Schedule(perdure.Every(steps=10), step=7)
    assert [step for step in (8, 9, 10, 11, 19, 25) if schedule.due(step, None)] == [10, 11, 19, 25]
    schedule.saved(11, None)
    assert [step for step in (12, 19, 20) if schedule.due(step, None)] == [20]


def test_no_multiple_is_passed_over_for_the_way_it_is_written() -> None:
    schedule, due = Schedule(perdure.Every(epochs=0.1)), []
    for tenth in range(1, 21):
        if schedule.due(tenth, tenth / 10):
            due.append(tenth)
            schedule.saved(tenth, tenth / 10)
    assert due == list(range(1, 21))


def test_epochs_are_due_and_must_be_told() -> None:
    schedule = Schedule(perdure.Every(epochs=0.5))
    assert [epoch for epoch in (0.1, 0.49, 0.5, 0.7) if schedule.due(1, epoch)] == [0.5, 0.7]
    with pytest.raises(perdure.InvalidInput, match="epoch"):
        schedule.due(1, None)


def test_seconds_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    schedule = Schedule(perdure.Every(seconds=60))
    clock = 59.0
    assert not schedule.due(1, None)
    clock = 60.0
    assert schedule.due(1, None)


@pytest.mark.parametrize("wrong", [{}, {"steps": 0}, {"seconds": -1}, {"epochs": float("nan")}])
def test_every_is_checked_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(perdure.InvalidInput):
        perdure.Every(**wrong)


@pytest.mark.parametrize("wrong", [{"last": 0}, {"every": -1}, {"greater_is_better": True}])
def test_keep_is_checked_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(perdure.InvalidInput):
        perdure.Keep(**wrong)


class Accurate:
    """A rule of one's own."""

    def condemned(self, checkpoints: Any, saved: int) -> list[Any]:
        return [one for one in checkpoints if one.metrics["acc"] < 0.5 and one.step != saved]


def test_a_rule_of_ones_own(new_run: Callable[..., Any], tmp_path: Path) -> None:
    rule: perdure.Retention = Accurate()
    run = new_run()
    with perdure.Checkpointer(tmp_path, keep=rule) as ckpt:
        for step, accuracy in enumerate((0.1, 0.9, 0.2), 1):
            ckpt.save(step, run.state, metrics={"acc": accuracy}, force=True)
    assert [one.step for one in perdure.checkpoints(tmp_path)] == [2, 3]


def test_keep_last_best_and_every() -> None:
    saved = [Saved(step, {"eval_loss": abs(step - 30.0)}) for step in range(10, 101, 10)]
    keep = perdure.Keep(last=2, best="eval_loss", every=50)
    assert [one.step for one in keep.condemned(saved, 100)] == [10, 20, 40, 60, 70, 80]
    assert keep.best_of(saved) is saved[2]
    assert perdure.Keep(last=1, best="accuracy").best_of(saved) is None
    greater = perdure.Keep(last=1, best="eval_loss", greater_is_better=True)
    assert [one.step for one in greater.condemned(saved, 100)] == list(range(10, 100, 10))


@given(
    st.dictionaries(st.integers(0, 99), st.floats() | st.none(), min_size=1),
    st.integers(1, 5), st.booleans(), st.integers(1, 9) | st.none(), st.data(),
)  # fmt: skip
def test_the_newest_the_best_and_the_one_just_saved_always_stay(
    losses: dict[int, float | None], last: int, best: bool, every: int | None, data: Any
) -> None:
    saved = [Saved(step, {} if loss is None else {"loss": loss}) for step, loss in losses.items()]
    now = data.draw(st.sampled_from(sorted(losses)))
    keep = perdure.Keep(last=last, best="loss" if best else None, every=every)
    gone = {one.step for one in keep.condemned(saved, now)}
    assert now not in gone
    assert not gone & set(sorted(losses)[-last:])
    assert not any(every and step % every == 0 for step in gone)
    numbers = {step: loss for step, loss in losses.items() if loss is not None and not math.isnan(loss)}
    if best and numbers:
        assert any(numbers[step] == min(numbers.values()) for step in set(numbers) - gone)


def steps(folder: Path) -> list[int]:
    return [info.step for info in perdure.checkpoints(folder)]


def test_old_ones_go_only_after_the_new_one_is_there(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run()
    keep = perdure.Keep(last=2, best="loss")
    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=1), keep=keep, blocking=True) as ckpt:
        for step, loss in enumerate([3.0, 1.0, 2.0, 2.0, 2.0], 1):
            run.optimizer.step()
            ckpt.save(step, run.state, metrics={"loss": loss})
    assert steps(tmp_path) == [2, 4, 5]
    assert [[path.name for path in record.deleted] for record in ckpt.saves] == [
        [], [], ["checkpoint-1"], [], ["checkpoint-3"],
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_one_that_is_being_read_stays_until_it_is_not(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run()
    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=1), keep=perdure.Keep(last=1), blocking=True) as ckpt:
        ckpt.save(1, run.state)
        with locks.pinned(tmp_path / "checkpoint-1"):
            ckpt.save(2, run.state)
            assert steps(tmp_path) == [1, 2]
        ckpt.save(3, run.state)
        assert steps(tmp_path) == [3]


def test_a_damaged_one_does_not_count_as_newest(new_run: Callable[..., Any], three: Path) -> None:
    weights = three / "checkpoint-3" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    run = new_run()
    keep = perdure.Keep(last=1)
    with perdure.Checkpointer(three, save=perdure.Every(steps=1), keep=keep, blocking=True) as ckpt:
        assert ckpt.restore(run.state) == 2
        ckpt.save(3, run.state)
    assert steps(three) == [3]
    assert perdure.verify(three / "checkpoint-3").ok


def test_one_that_is_being_uploaded_stays(
    new_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub is not spoken with here: what matters is that the folder is there all the while."""
    run = new_run()
    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=1), keep=perdure.Keep(last=1), blocking=True) as ckpt:
        ckpt.save(1, run.state)

        def send(*arguments: object, **options: object) -> None:
            ckpt.save(2, run.state)
            assert steps(tmp_path) == [1, 2]

        monkeypatch.setattr(publish.Push, "run", send)
        perdure.publish(tmp_path / "checkpoint-1", "me/run", endpoint="http://127.0.0.1:9", token="none")
        ckpt.save(3, run.state)
    assert steps(tmp_path) == [3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: perdure.Every(steps="10"),
        lambda: perdure.Every(seconds=True),
        lambda: perdure.Keep(last="3"),
        lambda: perdure.Keep(best=3),
        lambda: perdure.Checkpointer("never made", save=200),
        lambda: perdure.Checkpointer("never made", keep=3),
    ],
)
def test_what_is_no_policy_is_refused_when_it_is_given(make: Callable[[], object]) -> None:
    with pytest.raises(perdure.InvalidInput):
        make()


@pytest.mark.parametrize(
    "make", [lambda: perdure.Every(steps=0.1), lambda: perdure.Keep(last=1.5), lambda: perdure.Keep(every=2.0)]
)
def test_steps_and_checkpoints_are_counted_in_whole_numbers(make: Callable[[], object]) -> None:
    with pytest.raises(perdure.InvalidInput, match="is no whole number"):
        make()
