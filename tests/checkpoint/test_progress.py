"""Whoever waits at a terminal sees how far it is; records stay as they were made."""

from __future__ import annotations

import dataclasses
import os
import pty
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.checkpoint import progress
from perdure.io import direct


def at_a_terminal(action: Callable[[], object]) -> tuple[int, str]:
    """Run `action` in a child whose standard error is a terminal; its status, and what the terminal showed."""
    child, terminal = pty.fork()
    if child == 0:
        try:
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - pytest has put its own there
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    shown = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # Linux's way of saying that nobody is left at the other end
            break
        if not data:
            break
        shown += data
    os.close(terminal)
    return os.waitpid(child, 0)[1], shown.decode()


@pytest.mark.parametrize("patience", [0.0, 3600.0], ids=["long", "soon done"])
def test_a_bar_for_what_lasts_and_none_for_what_is_quick(
    patience: float, new_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = direct.write

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return real(*args, **options)

    monkeypatch.setattr(progress, "_PATIENCE", patience)
    monkeypatch.setattr(direct, "write", slow)

    def train() -> None:
        run = new_run(((300, 200),))
        with perdure.Checkpointer(tmp_path) as ckpt:
            ckpt.save(1, run.state, force=True)
            ckpt.wait()
            assert ckpt.restore(run.state) == 1

    status, shown = at_a_terminal(train)
    assert status == 0, shown
    if patience:
        assert shown == ""
    else:
        assert "\rSaving checkpoint-1 " in shown
        assert "\rRestoring checkpoint-1 " in shown
        assert "% of 0.00 GB" in shown
        assert shown.endswith("\r\x1b[K"), "the line is left as it was"


def test_records_are_facts(three: Path, new_run: Callable[..., Any]) -> None:
    run = new_run()
    with perdure.Checkpointer(three, keep=perdure.Keep(last=2)) as ckpt:
        ckpt.restore(run.state)
        ckpt.save(4, run.state, force=True)
    (record,) = ckpt.saves
    assert {field.name for field in dataclasses.fields(record)} == {
        "step", "path", "nbytes", "seconds", "staged_seconds", "stalled_seconds", "deleted",
    }  # fmt: skip
    assert record.deleted == (three / "checkpoint-1", three / "checkpoint-2")
    assert record.nbytes == sum(
        path.stat().st_size for path in record.path.rglob("*") if path.is_file() and path.name != "perdure.json"
    )
    assert 0 < record.staged_seconds <= record.seconds
    assert record.stalled_seconds >= 0
    for frozen in (record, ckpt.restored, perdure.checkpoints(three)[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            frozen.step = 0  # type: ignore[misc,union-attr]


def test_a_closed_one_saves_no_more(three: Path, new_run: Callable[..., Any]) -> None:
    run = new_run()
    ckpt = perdure.Checkpointer(three)
    ckpt.close()
    ckpt.close()
    with pytest.raises(perdure.InvalidInput, match="is closed"):
        ckpt.save(4, run.state, force=True)
    assert ckpt.restore(run.state) == 3
