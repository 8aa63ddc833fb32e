"""Ctrl-C, several times, at random instants: when it has reached the caller, nobody is at work on the file any more."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import pytest

from perdure.io.direct import Extent, ReadExtent, copy, read, write
from perdure.io.disk import Disk
from perdure.io.workers import SLAB, Done, share_out

SIZE = 8 * SLAB
COUNT = 20


class Slow(Disk):
    """Takes its time, and notes when the last call of it ended."""

    queues = False

    def __init__(self) -> None:
        self.called, self.last = threading.Event(), 0.0

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        return self._slowly(lambda: super(Slow, self).write(descriptor, data, offset))

    def read(self, descriptor: int, out: memoryview, offset: int) -> int:
        return self._slowly(lambda: super(Slow, self).read(descriptor, out, offset))

    def _slowly(self, call: Callable[[], int]) -> int:
        self.called.set()
        time.sleep(0.01)
        done = call()
        self.last = time.perf_counter()
        return done


@contextmanager
def interruptions(chance: random.Random, disk: Slow) -> Iterator[None]:
    """Several SIGINTs from the first call of the disk on; on leaving, all have come."""
    instants = sorted(chance.uniform(0.0, 0.12) for _ in range(10))

    def interrupt() -> None:
        disk.called.wait(30)
        begun = time.perf_counter()
        for instant in instants:
            time.sleep(max(0.0, begun + instant - time.perf_counter()))
            os.kill(os.getpid(), signal.SIGINT)

    def handler(number: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code not in (read.__code__, write.__code__):
            frame = frame.f_back
        if frame is not None:  # those that come later are not for what is tested
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reading", [False, True], ids=["write", "read"])
def test_after_an_interruption_no_call_reaches_the_disk(reading: bool, seed: int, tmp_path: Path) -> None:
    disk, path, memory = Slow(), tmp_path / "f", memoryview(bytearray(SIZE))
    path.touch()
    os.truncate(path, COUNT * SIZE if reading else 0)

    def work() -> None:
        if reading:
            sink = lambda start, data: copy(memory[start : start + len(data)], data)  # noqa: E731
            read(path, [ReadExtent(number * SIZE, SIZE, sink) for number in range(COUNT)], disk=disk)
        else:
            source = Extent(SIZE, lambda start, out: copy(out, memory[start : start + len(out)]))
            write(tmp_path / "g", [source] * COUNT, threads=4, disk=disk)

    with interruptions(random.Random(seed), disk):
        with suppress(KeyboardInterrupt):
            work()
            pytest.fail("was not interrupted")
        ended = time.perf_counter()
        time.sleep(0.05)
    assert disk.last <= ended


def test_who_begins_late_finds_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[threading.Thread] = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: late.insert(0, thread))
    seen: list[list[int]] = []
    share_out(range(5), lambda tasks: seen.append(list(tasks)), 3)
    for thread in late:
        start(thread)
        thread.join(10)
    assert len(late) == 2
    assert seen == [[0, 1, 2, 3, 4]]


def test_an_end_can_be_waited_for_again_after_an_interruption() -> None:
    done, begun = Done(), threading.Event()

    def work() -> None:
        begun.wait(10)
        done.set()

    threading.Thread(target=work).start()
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        done.wait(30)
    assert not done.wait(0)
    begun.set()
    assert done.wait(30)
    assert done.wait(0)
