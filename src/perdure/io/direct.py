"""Move big files between memory and disk at the disk's own speed, and digest every byte on the way.

A file is cut into tasks of up to 16 MiB. Each of a few threads takes a task, passes its bytes through slabs of 2 MiB
(aligned to pages, touched once and reused: fresh memory costs more than the disk), digests them while they are in the
processor's cache, and moves each slab with one positional call around the page cache. A page that two tasks share is
written by whoever completes it. Where a filesystem refuses to go around the cache, as tmpfs and some network
filesystems do, everything goes through it; only the speed differs.

All this is handed to the kernel, so that a thread for each core keeps all slabs on their way. Where it does not take
it, there is a thread for each slab.

What is written or read in each place is known from the sizes alone, so threads never wait for one another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from blake3 import blake3

from perdure.io.digest import of_chunks
from perdure.io.disk import DISK, Disk
from perdure.io.durable import Written
from perdure.io.file import File, open_file
from perdure.io.lane import ReadLane, WriteLane
from perdure.io.plan import Task, plan
from perdure.io.workers import PAGE, SLAB, share_out

BUDGET = 128 * 2**20
_SLABS = 24  # the disk has to have more in hand than it is working on


@dataclass(frozen=True, slots=True)
class Extent:
    """One contiguous run of bytes to write, digested on its own.

    `read_into(start, out)` puts the bytes from `start` to `start + len(out)` into `out`, which is gone when it
    returns. It is called from several threads at once and in any order, and asked for each byte exactly once.
    """

    nbytes: int
    read_into: Callable[[int, memoryview], None]


@dataclass(frozen=True, slots=True)
class ReadExtent:
    """One contiguous run of bytes of a file, digested on its own.

    `write_from(start, data)` is handed the bytes that begin at `start` of the extent; `data` is gone when it returns.
    It is called from several threads at once and in any order, with each byte exactly once.
    """

    offset: int
    nbytes: int
    write_from: Callable[[int, memoryview], None]


def of_bytes(data: bytes | memoryview) -> Extent:
    """An extent of bytes at hand."""
    view = memoryview(data).cast("B")
    return Extent(len(view), lambda start, out: copy(out, view[start : start + len(out)]))


def copy(target: memoryview, source: memoryview) -> None:
    """`target[:] = source` for equal lengths of bytes, letting other threads run meanwhile."""
    from numpy import copyto, frombuffer, uint8  # here, so that commands that move no weights start without it

    copyto(frombuffer(target, uint8), frombuffer(source, uint8))


def write(
    path: Path, extents: Sequence[Extent], *, budget: int = BUDGET, threads: int | None = None, disk: Disk = DISK
) -> Written:
    """Write a new file from `extents`, one after another, and fsync it.

    The file must not exist yet. Its mode is what the umask leaves of 0666. The caller fsyncs the folder.

    Args:
        budget: Bytes of memory for slabs.
        threads: How many fill slabs, the calling one included: fewer leave more of the processor to others. By
            default one for each core, or for each slab where all of them have to wait for the disk.

    Returns:
        The file's size, and the digest of each extent (`perdure.io.digest`).

    Raises:
        OSError: The disk is full, or refuses; the incomplete file is left for the caller's cleanup.
        Exception: Whatever a `read_into` raised.
    """
    offsets = [0, *accumulate(extent.nbytes for extent in extents)]
    tasks = list(plan([(offset, extent.nbytes) for offset, extent in zip(offsets, extents, strict=False)]))
    digests: dict[tuple[int, int], bytes] = {}
    with open_file(path, disk, writing=True) as file:
        disk.allocate(file.descriptor, offsets[-1])
        lanes, depth, size = _lanes(file, budget, threads)

        def work(tasks: Iterator[Task]) -> None:
            with WriteLane(file, depth=depth, size=size) as lane:
                for task in tasks:
                    _write_task(lane, extents, digests, task)

        share_out(tasks, work, lanes)
        file.finish()
        disk.fsync(file.descriptor)
    return Written(offsets[-1], _combined(digests, len(extents)))


def read(
    path: Path,
    extents: Sequence[ReadExtent],
    *,
    cached: bool = False,
    budget: int = BUDGET,
    disk: Disk = DISK,
) -> tuple[bytes, ...]:
    """Read `extents` of a file, hand their bytes on, and digest them in the same pass.

    Bytes are handed on before anything is known of their digest: comparing is the caller's.

    Args:
        cached: Whether the page cache's copy will do, where it holds one of the whole file. It is faster than most
            disks, but says nothing of what is on the disk.
        budget: Bytes of memory for slabs.

    Returns:
        The digest of each extent (`perdure.io.digest`).

    Raises:
        Corrupt: The file ends before an extent does.
        OSError: The file cannot be read.
        Exception: Whatever a `write_from` raised.
    """
    tasks = list(plan([(extent.offset, extent.nbytes) for extent in extents]))
    digests: dict[tuple[int, int], bytes] = {}
    with open_file(path, disk, writing=False, cached=cached) as file:
        lanes, depth, size = _lanes(file, budget, None)

        def work(tasks: Iterator[Task]) -> None:
            with ReadLane(file, tasks, depth=depth, size=size) as lane:
                for task in lane.tasks():
                    _read_task(lane, extents, digests, task)

        share_out(tasks, work, lanes)
    return _combined(digests, len(extents))


def _lanes(file: File, budget: int, threads: int | None) -> tuple[int, int, int]:
    """How many lanes, of how many slabs, of how many bytes; one slab of a page is the least."""
    if budget < SLAB:
        return 1, 1, max(PAGE, budget - budget % PAGE)
    slabs = min(_SLABS, budget // SLAB)
    lanes = min(slabs, threads or ((os.cpu_count() or 1) if file.queues else slabs))
    return lanes, slabs // lanes if file.queues else 1, SLAB


def _combined(digests: dict[tuple[int, int], bytes], count: int) -> tuple[bytes, ...]:
    chunks: list[list[bytes]] = [[] for _ in range(count)]
    for (extent, _), digest in sorted(digests.items()):
        chunks[extent].append(digest)
    return tuple(map(of_chunks, chunks))


def _write_task(lane: WriteLane, extents: Sequence[Extent], digests: dict[tuple[int, int], bytes], task: Task) -> None:
    slab, offset = lane.slab(), task.offset
    filled = begin = offset % PAGE  # so that what lies on a page of the file lies on a page of memory
    for piece in task.pieces:
        hasher, done = blake3(), 0
        while done < piece.nbytes:
            out = slab[filled : filled + piece.nbytes - done]
            extents[piece.extent].read_into(piece.start + done, out)
            hasher.update(out)
            done += len(out)
            filled += len(out)
            if filled == len(slab):
                lane.write(slab[begin:filled], offset)
                offset += filled - begin
                slab, filled, begin = lane.slab(), 0, 0
        digests[piece.extent, piece.start] = hasher.digest()
    lane.write(slab[begin:filled], offset)


def _read_task(
    lane: ReadLane, extents: Sequence[ReadExtent], digests: dict[tuple[int, int], bytes], task: Task
) -> None:
    block = lane.read()[task.offset % PAGE :] if task.nbytes else memoryview(b"")
    for piece in task.pieces:
        hasher, done = blake3(), 0
        while done < piece.nbytes:
            block = block or lane.read()
            data, block = block[: piece.nbytes - done], block[piece.nbytes - done :]
            hasher.update(data)
            extents[piece.extent].write_from(piece.start + done, data)
            done += len(data)
        digests[piece.extent, piece.start] = hasher.digest()
