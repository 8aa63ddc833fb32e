from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import perdure
from perdure.checkpoint import snapshot
from perdure.checkpoint.progress import Bar
from perdure.io import direct


def steps(folder: Path) -> list[int]:
    return [info.step for info in perdure.checkpoints(folder)]


class Gate:
    """Holds the writer back before it takes its first bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        real = direct.write

        def write(*args: Any, **options: Any) -> Any:
            assert self.open.wait(10)
            return real(*args, **options)

        monkeypatch.setattr(direct, "write", write)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def test_save_returns_and_the_next_step_takes_what_is_left(
    gate: Gate, new_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = new_run()
    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=2)) as ckpt:
        assert not ckpt.save(1, run.state)
        assert ckpt.save(2, run.state)
        assert steps(tmp_path) == []
        for _ in range(5):
            run.optimizer.step()
        gate.open.set()
        ckpt.wait()
        assert steps(tmp_path) == [2]
        assert ckpt.restore(run.state) == 2
    assert run.values() == {0.0}
    (record,) = ckpt.saves
    assert record.step == 2
    assert record.nbytes == perdure.checkpoints(tmp_path)[0].nbytes
    assert 0 < record.staged_seconds <= record.seconds
    assert 0 < record.stalled_seconds <= record.seconds
    assert record.gigabytes_per_second > 0


def test_loading_other_weights_waits_as_a_step_does(gate: Gate, new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run()
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, run.state, force=True)
        run.model.load_state_dict({name: value + 5 for name, value in run.model.state_dict().items()})
        gate.open.set()
        ckpt.restore(run.state)
    assert run.values() == {0.0}


def test_buffers_that_a_forward_pass_changes_are_of_the_moment(gate: Gate, tmp_path: Path) -> None:
    norm = torch.nn.BatchNorm1d(3)
    state = perdure.State(model=norm, optimizer=torch.optim.SGD(norm.parameters(), lr=0.1))
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, state, force=True)
        with torch.no_grad():
            norm(torch.rand(8, 3))
        torch.rand(1)
        gate.open.set()
        ckpt.restore(state)
    for name, tensor in norm.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_busy_writer_is_waited_for_or_the_save_is_skipped(
    gate: Gate, new_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = new_run()
    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=1), when_busy="skip") as ckpt:
        assert ckpt.save(1, run.state)
        assert not ckpt.save(2, run.state)
        threading.Timer(0.05, gate.open.set).start()
        assert ckpt.save(3, run.state, force=True), "what is forced waits"
    assert steps(tmp_path) == [1, 3]


def test_the_same_step_is_saved_again_only_by_force(
    new_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=2)) as ckpt:
        assert ckpt.save(2, run.state)
        assert not ckpt.save(2, run.state)
        assert ckpt.save(2, run.state, metrics={"acc": 1}, force=True)
        ckpt.wait()
        assert [one.metrics for one in perdure.checkpoints(tmp_path)] == [{"acc": 1}]
        with monkeypatch.context() as patch:
            patch.setattr(direct, "write", lambda *args, **options: 1 / 0)
            ckpt.save(2, run.state, metrics={"acc": 2}, force=True)
            with pytest.raises(perdure.SaveFailed):
                ckpt.wait()
        assert perdure.verify(tmp_path / "checkpoint-2").ok, "the old one goes no sooner than the new one is whole"
        assert ckpt.restore(run.state) == 2
        assert not ckpt.save(2, run.state)
        assert ckpt.save(2, run.state, force=True)
    assert [one.metrics for one in perdure.checkpoints(tmp_path)] == [{}]


def test_an_error_reaches_the_next_call_once_and_training_can_go_on(
    new_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with perdure.Checkpointer(tmp_path, save=perdure.Every(steps=1)) as ckpt:
        ckpt.save(1, run.state)
        ckpt.wait()
        with monkeypatch.context() as patch:
            patch.setattr(direct, "write", full)
            ckpt.save(2, run.state)
            run.optimizer.step()
            with pytest.raises(perdure.SaveFailed, match=r"No space left.*nothing of this save was kept"):
                ckpt.wait()
        ckpt.wait()
        assert steps(tmp_path) == [1]
        assert ckpt.save(2, run.state)
    assert steps(tmp_path) == [1, 2]
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("call", ["save", "close", "restore"])
def test_no_call_swallows_an_error(
    call: str, new_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    monkeypatch.setattr(snapshot, "stage", lambda folder: 1 / 0)
    ckpt = perdure.Checkpointer(tmp_path, save=perdure.Every(steps=1))
    try:
        ckpt.save(1, run.state)
        save = ckpt._guard.save
        assert save is not None
        save.join()
        assert not save.running
        with pytest.raises(perdure.SaveFailed, match="ZeroDivisionError") as caught:
            {"save": lambda: ckpt.save(2, run.state), "close": ckpt.close, "restore": lambda: ckpt.restore(run.state)}[
                call
            ]()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    finally:
        ckpt.close()


def test_an_error_does_not_hide_the_one_that_ended_training(
    new_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = new_run()
    monkeypatch.setattr(snapshot, "stage", lambda folder: 1 / 0)
    with pytest.raises(KeyError, match="mine"), perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, run.state, force=True)
        raise KeyError("mine")
    assert "ZeroDivisionError" in caplog.text


def test_without_an_optimizer_to_wait_for_us_nothing_is_left_for_later(gate: Gate, tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    gate.open.set()
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, perdure.State(model=model), force=True)
        assert steps(tmp_path) == [1]


def test_two_optimizers_one_of_which_is_not_in_state(gate: Gate, new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run()
    other = torch.optim.SGD(run.model.parameters(), lr=1.0)
    for parameter in run.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, run.state, force=True)
        other.step()
        gate.open.set()
        ckpt.restore(run.state)
    assert run.values() == {0.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": -1},
        {"step": 1.5},
        {"step": "1"},
        {"metrics": {"loss": "low"}},
        {"epoch": -1.0},
        {"epoch": float("nan")},
    ],
)
def test_wrong_calls_are_told(wrong: dict[str, Any], new_run: Callable[..., Any], tmp_path: Path) -> None:
    with perdure.Checkpointer(tmp_path) as ckpt, pytest.raises(perdure.InvalidInput):
        ckpt.save(**{"step": 1, "state": new_run().state, "force": True, **wrong})
    with pytest.raises(perdure.InvalidInput):
        perdure.Checkpointer(tmp_path, when_busy="maybe")  # type: ignore[arg-type]
    with pytest.raises(perdure.InvalidInput):
        perdure.Checkpointer(tmp_path, memory=10)


def test_a_log_line_and_a_bar(
    new_run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with caplog.at_level(logging.INFO, "perdure"), perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, new_run().state, force=True, metrics={"loss": float("nan"), "acc": 1})
        ckpt.restore(new_run().state)
    assert "checkpoint-1: 0.00 GB durable after" in caplog.text
    assert "checkpoint-1: restored" in caplog.text
    assert capsys.readouterr().err == "", "no bar for what is quick, or not at a terminal"
    clock = 0.0
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("time.monotonic", lambda: clock)
    bar = Bar("Saving", 100)
    bar.advance(10)
    assert capsys.readouterr().err == ""
    clock = 2.0
    bar.advance(40)
    bar.clear()
    assert "50%" in capsys.readouterr().err


def test_what_follows_a_commit_is_called_once_it_is_safe(
    new_run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, bool, str]] = []

    def follow(record: Any) -> None:
        seen.append((record.step, perdure.verify(record.path).ok, threading.current_thread().name))
        raise RuntimeError("no room")

    with perdure.Checkpointer(tmp_path, keep=perdure.Keep(last=1), on_commit=follow) as ckpt:
        for step in (1, 2):
            ckpt.save(step, new_run().state, force=True)
    assert seen == [(1, True, "perdure-save-1"), (2, True, "perdure-save-2")] and steps(tmp_path) == [2]
    assert "what was to follow that failed" in caplog.text and "no room" in caplog.text
