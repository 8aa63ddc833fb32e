"""What is written is what is read, each byte once, within the memory that is given."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from disks import DATA, Waiting, check_file, into, read_back, some
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.io import lane
from perdure.io.aio import Queue
from perdure.io.digest import CHUNK, digest_bytes
from perdure.io.direct import Extent, ReadExtent, copy, of_bytes, read, write
from perdure.io.disk import Disk
from perdure.io.workers import PAGE, SLAB

SHM = Path("/dev/shm")
ROADS = [pytest.param(Disk(), id="handed over"), pytest.param(Waiting(), id="waited for")]
EDGES = (0, 1, 511, PAGE - 1, PAGE, PAGE + 1, SLAB - 1, SLAB, SLAB + 1, CHUNK - 1, CHUNK, CHUNK + 1)


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
