"""A process forked while a save is under way (a data loader's worker) leaves the parent's things alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.io import direct


def in_child(work: Callable[[], object]) -> int:
    """How a forked child ends: 0 where `work` returned true."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def is_refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except perdure.InvalidInput as error:
        return "forked" in str(error)
    return False


@pytest.mark.parametrize("moved", [False, True], ids=["all to be taken", "all set aside"])
def test_a_forked_child_neither_waits_nor_saves(
    moved: bool, new_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, go_on = new_run(((100, 100), (7,))), threading.Event()
    real = direct.write
    monkeypatch.setattr(direct, "write", lambda *args, **options: go_on.wait(60) and real(*args, **options))
    with perdure.Checkpointer(tmp_path) as ckpt:
        run.optimizer.step()
        ckpt.save(1, run.state, force=True)
        if moved:  # into memory that no child has
            run.optimizer.step()

        def child() -> bool:
            before = run.values()
            run.optimizer.step()
            refused = is_refused(lambda: ckpt.save(3, run.state, force=True))
            refused &= is_refused(lambda: ckpt.restore(run.state))
            ckpt.wait()
            ckpt.close()
            return refused and run.values() == {value + 1 for value in before}

        assert in_child(child) == 0
        go_on.set()
        ckpt.wait()
        assert [one.step for one in perdure.checkpoints(tmp_path)] == [1]
        assert ckpt.restore(run.state) == 1
    assert run.values() == {1.0}
