"""What becomes of requests that are handed to the kernel."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from disks import check_file, read_back, some

from perdure.io.aio import Queue
from perdure.io.digest import CHUNK, digest_bytes
from perdure.io.direct import of_bytes, write
from perdure.io.disk import Disk
from perdure.io.workers import PAGE, SLAB


class FaultyQueue(Queue):
    """One of the writes that are handed over comes to `result` bytes, or to minus an errno; later ones are done."""

    def __init__(self, depth: int, at: int, result: int, seen: list[int]) -> None:
        super().__init__(depth)
        self.at, self.result, self.seen = at, result, seen

    def wait(self) -> list[tuple[int, int]]:
        done = super().wait()
        for index, (slot, _) in enumerate(done):
            self.seen.append(slot)
            if len(self.seen) == self.at:
                done[index] = slot, self.result
        return done


class RefusingQueue(Queue):
    """Takes every second one."""

    count = 0

    def submit(self, slot: int, descriptor: int, data: memoryview, offset: int, *, reading: bool = False) -> bool:
        self.count += 1
        return self.count % 2 == 0 and super().submit(slot, descriptor, data, offset, reading=reading)


needs_queues = pytest.mark.skipif(not Disk().queues, reason="waits for a kernel that takes writes in queues (io_setup)")


@needs_queues
@pytest.mark.parametrize("result", [-errno.EIO, -errno.ENOSPC, -errno.EINVAL, 0, 512, PAGE, 3 * PAGE + 1])
def test_what_becomes_of_a_write_that_was_handed_over(tmp_path: Path, no_leaks: None, result: int) -> None:
    parts, path, at = some((100, CHUNK + 5, SLAB)), tmp_path / "f", 0
    while True:
        at += 1
        seen: list[int] = []
        disk = Disk()
        disk.queue = lambda depth: FaultyQueue(depth, at, result, seen)  # type: ignore[method-assign]  # noqa: B023
        path.unlink(missing_ok=True)
        try:
            written = write(path, list(map(of_bytes, parts)), disk=disk)
        except OSError as error:
            assert error.errno == -result != errno.EINVAL
            assert len(seen) >= at
            continue
        assert written.digests == tuple(map(digest_bytes, parts))
        check_file(path, parts)
        if len(seen) < at:
            break
        assert result in (-errno.EINVAL, 0, 512, PAGE, 3 * PAGE + 1), "an error was lost"
    assert at > 9


@needs_queues
@pytest.mark.parametrize("result", [-errno.EIO, -errno.EINVAL, 0, 512, PAGE, 3 * PAGE + 1])
def test_what_becomes_of_a_reading_that_was_handed_over(tmp_path: Path, no_leaks: None, result: int) -> None:
    path, at, sizes = tmp_path / "f", 0, [100, CHUNK + 5, 0, SLAB]
    written = write(path, list(map(of_bytes, some(sizes))))
    while True:
        at += 1
        seen: list[int] = []
        disk = Disk()
        disk.queue = lambda depth: FaultyQueue(depth, at, result, seen)  # type: ignore[method-assign]  # noqa: B023
        try:
            found = read_back(path, sizes, disk)
        except OSError as error:
            assert error.errno == -result == errno.EIO
            assert len(seen) >= at
            continue
        assert found == (some(sizes), written.digests)
        if len(seen) < at:
            break
        assert result != -errno.EIO, "an error was lost"
    assert at > 9


@needs_queues
def test_what_the_kernel_does_not_take_is_done_at_once(tmp_path: Path, no_leaks: None) -> None:
    disk, none = Disk(), Disk()
    disk.queue = RefusingQueue  # type: ignore[method-assign,assignment]
    none.queue = lambda depth: None  # type: ignore[method-assign,misc]
    parts = some((100, CHUNK + 5, SLAB))
    for index, one in enumerate((disk, none)):
        write(tmp_path / str(index), list(map(of_bytes, parts)), disk=one)
        check_file(tmp_path / str(index), parts)
        assert read_back(tmp_path / str(index), [len(part) for part in parts], one)[0] == parts


@needs_queues
def test_an_interruption_at_any_moment_hangs_nothing_and_leaves_nothing_in_hand(tmp_path: Path, no_leaks: None) -> None:
    parts = some((100, CHUNK + 5, SLAB))

    class Interrupted(Queue):
        """Is interrupted behind its `at`th call, before anybody hears what came of it."""

        calls, at = 0, 0

        def submit(self, *args: Any, **kwargs: Any) -> bool:
            return self.interrupt(super().submit(*args, **kwargs))

        def wait(self) -> list[tuple[int, int]]:
            return self.interrupt(super().wait())

        def interrupt(self, result: Any) -> Any:
            Interrupted.calls += 1
            if Interrupted.calls == self.at:
                raise KeyboardInterrupt
            return result

    disk = Disk()
    disk.queue = Interrupted  # type: ignore[method-assign,assignment]
    survived = False
    while not survived:
        Interrupted.at, Interrupted.calls = Interrupted.at + 1, 0
        try:
            write(tmp_path / "f", list(map(of_bytes, parts)), disk=disk, threads=1)
            read_back(tmp_path / "f", [len(part) for part in parts], disk)
            survived = Interrupted.calls < Interrupted.at
        except KeyboardInterrupt:
            pass
        (tmp_path / "f").unlink()
        write(tmp_path / "f", list(map(of_bytes, parts)))
        check_file(tmp_path / "f", parts)
        (tmp_path / "f").unlink()
    assert Interrupted.at > 20
