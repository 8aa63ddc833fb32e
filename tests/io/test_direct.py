from __future__ import annotations

import errno
import os
import resource
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.errors import Corrupt
from perdure.io import lane
from perdure.io.aio import Queue
from perdure.io.digest import CHUNK, digest_bytes
from perdure.io.direct import Extent, ReadExtent, copy, of_bytes, read, write
from perdure.io.disk import Disk
from perdure.io.plan import plan
from perdure.io.workers import PAGE, SLAB

SHM = Path("/dev/shm")


class Waiting(Disk):
    """Hands no writes to the kernel: each thread waits for its own."""

    queues = False


ROADS = [pytest.param(Disk(), id="handed over"), pytest.param(Waiting(), id="waited for")]
DATA = np.random.default_rng(0).integers(0, 256, CHUNK + SLAB, dtype=np.uint8).data
EDGES = (0, 1, 511, PAGE - 1, PAGE, PAGE + 1, SLAB - 1, SLAB, SLAB + 1, CHUNK - 1, CHUNK, CHUNK + 1)


def some(sizes: Sequence[int]) -> list[memoryview]:
    """Bytes of each size, different ones each."""
    return [DATA[7 * index : 7 * index + size] for index, size in enumerate(sizes)]


def check_file(path: Path, parts: Sequence[memoryview]) -> None:
    assert path.read_bytes() == b"".join(parts)


def read_back(path: Path, sizes: Sequence[int], disk: Disk | None = None) -> tuple[list[bytearray], tuple[bytes, ...]]:
    outs = [bytearray(size) for size in sizes]
    extents, offset = [], 0
    for out in outs:
        extents.append(ReadExtent(offset, len(out), into(out)))
        offset += len(out)
    return outs, read(path, extents, disk=disk or Disk())


def into(out: bytearray) -> Callable[[int, memoryview], None]:
    return lambda start, data: copy(memoryview(out)[start : start + len(data)], data)


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Whatever went wrong, no descriptor is left open and no thread at work."""
    before = open_files()
    yield
    for thread in threading.enumerate():
        if thread.name == "perdure-io":  # done with its work, if not gone yet
            thread.join(10)
            assert not thread.is_alive()
    assert open_files() <= before


def open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


@given(
    st.lists(st.sampled_from(EDGES) | st.integers(0, 3 * PAGE), max_size=6),
    st.integers(1, 5),
    st.sampled_from([PAGE, 3 * PAGE + 5, SLAB, 9 * SLAB]),
    st.sampled_from([Disk(), Waiting()]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_what_is_read(
    tmp_path: Path, sizes: list[int], threads: int, budget: int, disk: Disk
) -> None:
    if budget < SLAB:
        sizes = [size % SLAB for size in sizes]  # a slab of a page is right, and slow
    path, parts = tmp_path / "f", some(sizes)
    path.unlink(missing_ok=True)
    written = write(path, list(map(of_bytes, parts)), threads=threads, budget=budget, disk=disk)
    assert written.size == sum(sizes)
    assert written.digests == tuple(map(digest_bytes, parts))
    check_file(path, parts)
    outs, digests = read_back(path, sizes, disk)
    assert digests == written.digests
    assert outs == parts


def test_each_byte_is_asked_for_and_handed_on_once(tmp_path: Path) -> None:
    asked, handed = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    lock = threading.Lock()
    sizes = [1000, 3 * CHUNK + 5, 0, 17, SLAB]

    def source(index: int) -> Callable[[int, memoryview], None]:
        def read_into(start: int, out: memoryview) -> None:
            with lock:
                asked[index, start] += len(out)
            copy(out, memoryview(bytes(len(out))))

        return read_into

    def sink(index: int) -> Callable[[int, memoryview], None]:
        def write_from(start: int, data: memoryview) -> None:
            with lock:
                handed[index, start] += len(data)

        return write_from

    write(tmp_path / "f", [Extent(size, source(index)) for index, size in enumerate(sizes)])
    offsets = [sum(sizes[:index]) for index in range(len(sizes))]
    extents = [
        ReadExtent(offset, size, sink(index)) for index, (offset, size) in enumerate(zip(offsets, sizes, strict=True))
    ]
    read(tmp_path / "f", extents)
    for seen in (asked, handed):
        for index, size in enumerate(sizes):
            runs = sorted((start, length) for (which, start), length in seen.items() if which == index)
            position = 0
            for start, length in runs:
                assert start == position
                position += length
            assert position == size


SPANS = [(SLAB + 3, 100), (0, 5), (10, 0), (CHUNK - 1, SLAB), (CHUNK, 7), (PAGE + 1, 0), (len(DATA), 0), (5, CHUNK + 9)]


@given(
    st.permutations(SPANS)
    | st.lists(st.tuples(st.integers(0, 9 * PAGE), st.sampled_from([0, 1, PAGE]) | st.integers(0, PAGE)), max_size=40),
    st.sampled_from([PAGE, SLAB, 9 * SLAB, 128 * SLAB]),
    st.sampled_from([Disk(), Waiting()]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_of_a_file_in_any_order(
    tmp_path: Path, spans: Sequence[tuple[int, int]], budget: int, disk: Disk
) -> None:
    if not (tmp_path / "f").exists():
        (tmp_path / "f").write_bytes(DATA)
    if budget < SLAB:
        spans = [(offset, nbytes) for offset, nbytes in spans if nbytes < SLAB]
    outs = [bytearray(size) for _, size in spans]
    extents = [ReadExtent(offset, size, into(out)) for (offset, size), out in zip(spans, outs, strict=True)]
    digests = read(tmp_path / "f", extents, budget=budget, disk=disk)
    for (offset, size), out, digest in zip(spans, outs, digests, strict=True):
        assert out == DATA[offset : offset + size]
        assert digest == digest_bytes(out)


@pytest.mark.parametrize("sizes", [(), (0,), (5,), (CHUNK + 5, 3)])
def test_a_filesystem_without_direct_io(sizes: tuple[int, ...]) -> None:
    path = (SHM if SHM.is_dir() else Path()) / f"perdure-test-{os.getpid()}"
    try:
        parts = some(sizes)
        assert write(path, list(map(of_bytes, parts))).digests == tuple(map(digest_bytes, parts))
        check_file(path, parts)
        assert read_back(path, sizes)[0] == parts
    finally:
        path.unlink(missing_ok=True)


class NoDirect(Waiting):
    """Lets a file be opened for direct I/O, and then refuses it."""

    refused = 0

    def open_around_cache(self, path: Path, *, writing: bool) -> int | None:
        self.around = super().open_around_cache(path, writing=writing)
        return self.around

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        self.refuse(descriptor)
        return super().write(descriptor, data, offset)

    def read(self, descriptor: int, out: memoryview, offset: int) -> int:
        self.refuse(descriptor)
        return super().read(descriptor, out, offset)

    def refuse(self, descriptor: int) -> None:
        if descriptor == self.around:
            self.refused += 1
            raise OSError(errno.EINVAL, "Invalid argument")


def test_a_filesystem_that_refuses_direct_io_late(tmp_path: Path, no_leaks: None) -> None:
    sizes = (PAGE, CHUNK + 5, 3)
    disk = NoDirect()
    written = write(tmp_path / "f", list(map(of_bytes, some(sizes))), disk=disk)
    check_file(tmp_path / "f", some(sizes))
    outs, digests = read_back(tmp_path / "f", sizes, disk)
    assert outs == some(sizes)
    assert digests == written.digests
    if disk.around is not None:
        assert disk.refused


def test_what_the_cache_holds_need_not_come_from_the_disk(tmp_path: Path) -> None:
    roads: list[bool] = []

    class Watched(Disk):
        def open_around_cache(self, path: Path, *, writing: bool) -> int | None:
            roads.append(True)
            return super().open_around_cache(path, writing=writing)

    def digest(*, cached: bool) -> bytes:
        extent = ReadExtent(0, len(DATA), lambda start, data: None)
        return read(tmp_path / "f", [extent], cached=cached, disk=Watched())[0]

    (tmp_path / "f").write_bytes(DATA)
    descriptor = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        assert digest(cached=True) == digest_bytes(DATA)
        assert not roads, "it was written through the cache just now"
        assert digest(cached=False) == digest_bytes(DATA)
        assert roads
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        cold = not Disk().is_cached(descriptor)
        assert digest(cached=True) == digest_bytes(DATA)
        assert len(roads) == 1 + cold
    finally:
        os.close(descriptor)


class Short(Waiting):
    """Moves fewer bytes than it is asked to, as a disk does that is nearly full, or a call that was interrupted."""

    def __init__(self, most: int) -> None:
        self.most = most

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        return super().write(descriptor, data[: self.most], offset)

    def read(self, descriptor: int, out: memoryview, offset: int) -> int:
        return super().read(descriptor, out[: self.most], offset)


@pytest.mark.parametrize("most", [512, PAGE, 3 * PAGE, SLAB - 512])
def test_short_writes_and_reads_are_continued(tmp_path: Path, most: int) -> None:
    sizes = (100, SLAB + 5 if most < SLAB / 2 else CHUNK + 5, PAGE)
    parts = some(sizes)
    assert write(tmp_path / "f", list(map(of_bytes, parts)), disk=Short(most)).size == sum(sizes)
    check_file(tmp_path / "f", parts)
    assert read_back(tmp_path / "f", sizes, Short(most))[0] == parts


class Faulty(Waiting):
    """Fails at one of its calls."""

    def __init__(self, fail_at: int, code: int) -> None:
        self.fail_at, self.code, self.calls = fail_at, code, 0
        self.lock = threading.Lock()

    def __getattribute__(self, name: str) -> object:
        method = super().__getattribute__(name)
        if name not in ("create", "open", "open_around_cache", "allocate", "write", "read", "fsync"):
            return method

        def call(*args: object, **kwargs: object) -> object:
            with self.lock:
                self.calls += 1
                fails = self.calls == self.fail_at
            if fails:
                raise OSError(self.code, os.strerror(self.code))
            return method(*args, **kwargs)  # type: ignore[operator]

        return call


def test_fsync_is_the_last_of_it(tmp_path: Path) -> None:
    calls: list[str] = []

    class RecordedQueue(Queue):
        def wait(self) -> list[tuple[int, int]]:
            done = super().wait()
            calls.extend(["write"] * len(done))
            return done

    class Recorded(Disk):
        queue = staticmethod(RecordedQueue)

        def write(self, descriptor: int, data: memoryview, offset: int) -> int:
            count = super().write(descriptor, data, offset)
            calls.append("write")
            return count

        def fsync(self, descriptor: int) -> None:
            calls.append("fsync")
            super().fsync(descriptor)

    write(tmp_path / "f", list(map(of_bytes, some((CHUNK + 5, 100)))), disk=Recorded())
    assert calls.index("fsync") == len(calls) - 1 > 3


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_at_any_call(tmp_path: Path, no_leaks: None, code: int) -> None:
    parts = some((100, CHUNK + 5, SLAB))
    path = tmp_path / "f"
    for action in ("write", "read"):
        fail_at = 0
        while True:
            fail_at += 1
            disk = Faulty(fail_at, code)
            if action == "write":
                path.unlink(missing_ok=True)
            try:
                if action == "write":
                    write(path, list(map(of_bytes, parts)), disk=disk)
                else:
                    read_back(path, [len(part) for part in parts], disk)
            except OSError as error:
                assert error.errno == code
                assert disk.calls >= fail_at
            else:
                assert disk.calls < fail_at, "an error was lost"
                break
        assert fail_at > 5
    check_file(path, parts)


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


def test_the_first_error_of_a_source_ends_it(tmp_path: Path, no_leaks: None) -> None:
    calls = []

    def read_into(start: int, out: memoryview) -> None:
        calls.append(start)
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone"):
        write(tmp_path / "f", [Extent(100 * CHUNK, read_into)], threads=3)
    assert len(calls) <= 3

    (tmp_path / "g").write_bytes(DATA)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path / "g", [ReadExtent(0, len(DATA), lambda start, data: (_ for _ in ()).throw(KeyboardInterrupt))])


def test_where_no_thread_can_be_started_the_caller_does_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    parts = some((CHUNK + 5, CHUNK))
    write(tmp_path / "f", list(map(of_bytes, parts)))
    check_file(tmp_path / "f", parts)


@pytest.mark.parametrize("disk", ROADS)
@pytest.mark.parametrize("budget", [1, PAGE, 5 * PAGE + 1, SLAB, 3 * SLAB + 1, 100 * SLAB])
def test_memory_stays_within_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int, disk: Disk
) -> None:
    slabs: list[int] = []
    make_slab = lane.make_slab

    def counted(nbytes: int) -> memoryview:
        slabs.append(nbytes)
        return make_slab(nbytes)

    monkeypatch.setattr(lane, "make_slab", counted)
    source = lambda start, out: None  # noqa: E731
    write(tmp_path / "f", [Extent(CHUNK if budget < SLAB else 4 * CHUNK, source)], budget=budget, disk=disk)
    assert sum(slabs) <= max(budget, PAGE)
    assert all(size % PAGE == 0 for size in slabs)


def test_it_honours_the_umask_and_never_overwrites(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write(tmp_path / "f", [of_bytes(b"x")])
    finally:
        os.umask(old)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileExistsError):
        write(tmp_path / "f", [of_bytes(b"new")])
    assert (tmp_path / "f").read_bytes() == b"x"


def test_a_file_size_limit_is_told(tmp_path: Path, no_leaks: None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / "f", [of_bytes(bytes(3_000_000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("length", [0, 1, PAGE, PAGE + 1, SLAB + 1])
def test_a_file_that_is_too_short_is_corrupt(tmp_path: Path, no_leaks: None, length: int) -> None:
    (tmp_path / "f").write_bytes(bytes(length))
    with pytest.raises(Corrupt, match=f"ends at byte {length}"):
        read_back(tmp_path / "f", [length + 1])
    with pytest.raises(FileNotFoundError):
        read_back(tmp_path / "missing", [1])


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2 * CHUNK + 2)), max_size=8))
def test_a_plan_covers_every_byte_once(extents: list[tuple[int, int]]) -> None:
    offsets, end = [], 0
    for gap, nbytes in extents:
        offsets.append((end + gap, nbytes))
        end += gap + nbytes
    covered: dict[int, int] = dict.fromkeys(range(len(extents)), 0)
    for task in plan(offsets):
        assert task.nbytes <= CHUNK
        position = task.offset
        for piece in task.pieces:
            assert position == offsets[piece.extent][0] + piece.start
            assert piece.start == covered[piece.extent]
            assert piece.start % CHUNK == 0
            covered[piece.extent] += piece.nbytes
            position += piece.nbytes
    assert [covered[index] for index in range(len(extents))] == [nbytes for _, nbytes in offsets]


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
