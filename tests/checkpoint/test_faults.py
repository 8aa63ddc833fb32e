"""A disk that refuses: the error is clear, the older checkpoint is whole, training and the next save go on."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.io.disk import Disk

SIZES = ((300, 200), (17,))


class Failing:
    """Has one of a kind of calls fail: the `at`th from when it is armed."""

    def __init__(self, patch: pytest.MonkeyPatch, home: Any, name: str, code: int) -> None:
        self.at: int | None = None
        self.count = 0
        real = getattr(home, name)

        def call(*args: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                raise OSError(code, os.strerror(code))
            return real(*args, **named)

        patch.setattr(home, name, call)

    def arm(self, at: int | None) -> None:
        self.at, self.count = at, 0


CALLS: dict[str, tuple[Any, str, int]] = {
    "creating a file": (Disk, "create", errno.EIO),
    "room for it": (Disk, "allocate", errno.ENOSPC),
    "writing tensors": (Disk, "write", errno.EIO),
    "their fsync": (Disk, "fsync", errno.EIO),
    "writing documents": (os, "write", errno.ENOSPC),
    "any fsync": (os, "fsync", errno.EIO),
    "making folders": (os, "mkdir", errno.EDQUOT),
    "putting in place": (os, "rename", errno.EIO),
}


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "behind"])
def test_each_call_fails_in_turn(
    what: str, blocking: bool, new_run: Callable[..., Any], quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run, again = quick_path / "run", new_run(SIZES), new_run(SIZES)
    failing = Failing(monkeypatch, *CALLS[what])
    with perdure.Checkpointer(folder, keep=perdure.Keep(last=2), blocking=blocking) as ckpt:
        run.optimizer.step()
        ckpt.save(1, run.state, force=True)
        ckpt.wait()
        step, at = 1, 0
        while True:
            step, at = step + 1, at + 1
            run.optimizer.step()
            failing.arm(at)
            try:
                ckpt.save(step, run.state, force=True)
                run.optimizer.step()  # training goes on
                step += 1
                ckpt.wait()
            except perdure.SaveFailed as error:
                assert os.strerror(CALLS[what][2]) in str(error)
                assert "nothing of this save was kept" in str(error)
                failed = step if blocking else step - 1
                assert not (folder / f"checkpoint-{failed}").exists(), "what was told is true"
                if blocking:
                    run.optimizer.step()
                    step += 1
            reached_point = failing.count >= at
            failing.arm(None)
            before = ckpt.restore(again.state)
            assert again.values() == {float(before)}
            assert ckpt.restored is not None
            assert ckpt.restored.skipped == ()
            assert ckpt.save(step, run.state, force=True)
            ckpt.wait()
            assert ckpt.restore(again.state) == step
            if not reached_point:
                break
        assert at > 1
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_what_cannot_be_read_is_passed_over_with_the_reason(
    code: int, new_run: Callable[..., Any], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Disk.read
    bad = {(path.stat().st_dev, path.stat().st_ino) for path in (three / "checkpoint-3").rglob("*.safetensors")}

    def read(disk: Disk, descriptor: int, out: memoryview, offset: int) -> int:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) in bad:
            raise OSError(code, os.strerror(code))
        return real(disk, descriptor, out, offset)

    monkeypatch.setattr(Disk, "read", read)
    monkeypatch.setattr(Disk, "queues", False)  # of what is handed to the kernel, tests/io tells
    run = new_run()
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 2
        assert ckpt.restored is not None
        (skipped,) = ckpt.restored.skipped
    assert skipped.path == three / "checkpoint-3"
    assert os.strerror(code) in skipped.reason
    assert run.values() == {2.0}
    assert {problem.kind for problem in perdure.verify(three / "checkpoint-3").problems} == {"unreadable"}


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A filesystem of its own in memory."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"waits for the right to mount a filesystem: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="waits for root, who may mount a filesystem")
def test_a_disk_that_is_full(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run(((200, 500),))  # 0.8 MB a checkpoint, with its moments
    with mounted(tmp_path / "disk", "-o", "size=2m") as disk, perdure.Checkpointer(disk / "run") as ckpt:
        run.optimizer.step()
        ckpt.save(1, run.state, force=True)
        ckpt.wait()
        (disk / "somebody's").write_bytes(bytes(800_000))
        run.optimizer.step()
        with pytest.raises(perdure.SaveFailed, match=r"No space left.*nothing of this save was kept") as caught:
            ckpt.save(2, run.state, force=True)
            run.optimizer.step()
            ckpt.wait()
        assert "Free some space" in caught.value.hint
        again = new_run(((200, 500),))
        assert ckpt.restore(again.state) == 1
        assert again.values() == {1.0}
        (disk / "somebody's").unlink()
        assert ckpt.save(3, run.state, force=True)
        ckpt.wait()
        assert ckpt.restore(again.state) == 3
        assert again.values() == {3.0}


@pytest.mark.skipif(os.geteuid() != 0, reason="waits for root, who may mount a filesystem")
def test_a_disk_that_became_read_only(
    new_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A lock is an open file, which keeps us, unlike a kernel that meets an error, from making the disk read-only.
    monkeypatch.setattr("perdure.checkpoint.writer.Writer.claim", lambda self, make: None)
    run = new_run()
    with mounted(tmp_path / "disk") as disk, perdure.Checkpointer(disk / "run") as ckpt:
        run.optimizer.step()
        ckpt.save(1, run.state, force=True)
        ckpt.wait()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        run.optimizer.step()
        with pytest.raises(perdure.SaveFailed, match="Read-only file system") as caught:
            ckpt.save(2, run.state, force=True)
            ckpt.wait()
        assert "read-only: save into another folder" in caught.value.hint
        again = new_run()
        assert ckpt.restore(again.state) == 1, "reading needs no writing"
        assert again.values() == {1.0}
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert ckpt.save(2, run.state, force=True)
        assert ckpt.restore(again.state) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="waits for a user other than root, whom permissions do not bind")
def test_a_folder_that_may_not_be_written(new_run: Callable[..., Any], tmp_path: Path) -> None:
    folder, run = tmp_path / "run", new_run()
    with perdure.Checkpointer(folder, blocking=True) as ckpt:
        ckpt.save(1, run.state, force=True)
        folder.chmod(0o555)
        with pytest.raises(perdure.SaveFailed, match="Permission denied"):
            ckpt.save(2, run.state, force=True)
        assert ckpt.restore(run.state) == 1
        folder.chmod(0o755)
        assert ckpt.save(2, run.state, force=True)


def test_a_limit_of_file_size(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run(((1000, 100),))
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, run.state, force=True)
        ckpt.wait()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(perdure.SaveFailed, match=r"too large.*nothing of this save was kept") as caught:
                ckpt.save(2, run.state, force=True)
                run.optimizer.step()
                ckpt.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert "ulimit -f" in caught.value.hint
        assert ckpt.restore(run.state) == 1
        assert ckpt.save(2, run.state, force=True)
        assert ckpt.restore(run.state) == 2
