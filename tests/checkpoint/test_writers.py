"""Two processes do not train in one folder; a process that is gone keeps nobody from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.checkpoint import writer

OTHER = """
import sys, time
from counting import Run
import perdure
ckpt = perdure.Checkpointer(sys.argv[1])
ckpt.save(1, Run().state, force=sys.argv[2] == "saved")
ckpt.wait()
print("there", flush=True)
time.sleep(60)
"""


@contextmanager
def another(folder: Path, *, saved: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A process that trains in `folder`."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    words = [sys.executable, "-c", OTHER, str(folder), "saved" if saved else "not due"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_PATIENCE", 0.1)


def test_the_second_process_is_refused(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run()
    with another(tmp_path / "run") as process, perdure.Checkpointer(tmp_path / "run") as ckpt:
        assert ckpt.restore(run.state) == 1, "an evaluation may look on"
        before = run.values()
        for call in (lambda: ckpt.save(2, run.state), lambda: ckpt.save(2, run.state, force=True), ckpt.take_over):
            with pytest.raises(perdure.InvalidInput, match=f"process {process.pid} is training") as caught:
                call()
            assert "name another folder" in caught.value.hint
        assert run.values() == before
        assert [one.step for one in perdure.checkpoints(tmp_path / "run")] == [1]


def test_before_its_first_checkpoint_is_due(new_run: Callable[..., Any], tmp_path: Path) -> None:
    refused = pytest.raises(perdure.InvalidInput, match="is training")
    with another(tmp_path / "run", saved=False), perdure.Checkpointer(tmp_path / "run") as ckpt, refused:
        ckpt.save(1, new_run().state)


def test_what_was_killed_is_resumed_at_once(
    new_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_PATIENCE", 10.0)
    with another(tmp_path / "run") as process, perdure.Checkpointer(tmp_path / "run") as ckpt:
        process.send_signal(signal.SIGKILL)
        run = new_run()
        assert ckpt.restore(run.state) == 1
        assert ckpt.save(2, run.state, force=True)


def test_checkpointers_of_one_process_share_a_folder(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run, lock = new_run(), tmp_path / ".perdure" / "writer.lock"
    with perdure.Checkpointer(tmp_path) as one:
        one.save(1, run.state, force=True)
        one.wait()
        with perdure.Checkpointer(tmp_path) as other:
            assert other.restore(run.state) == 1
            assert not other.save(2, run.state)
        assert lock.read_text() == str(os.getpid())
        one.save(2, run.state, force=True)
    assert not lock.parent.exists(), "nothing is left behind"


def test_a_fork_has_no_claim(tmp_path: Path) -> None:
    claim = writer.Writer(tmp_path)
    claim.claim(make=True)
    child = os.fork()
    if child == 0:
        try:
            claim.release()
            writer.Writer(tmp_path).claim(make=True)
        except perdure.InvalidInput as error:
            os._exit(3 if str(os.getppid()) in error.message else 4)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert (tmp_path / ".perdure" / "writer.lock").exists()
    claim.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="waits for a user other than root, whom permissions do not bind")
def test_a_folder_that_can_only_be_read_is_restored_from(new_run: Callable[..., Any], three: Path) -> None:
    three.chmod(0o555)
    try:
        with perdure.Checkpointer(three) as ckpt:
            assert ckpt.restore(new_run().state) == 3
    finally:
        three.chmod(0o755)


def test_where_nothing_can_be_locked_nobody_is_refused(
    new_run: Callable[..., Any], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("perdure.checkpoint.writer.fcntl.lockf", unsupported)
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(new_run().state) == 3
        assert ckpt.save(4, new_run().state, force=True)
