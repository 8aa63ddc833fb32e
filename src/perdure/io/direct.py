"""Move big files between memory and disk at the disk's own speed, and digest every byte on the way.

A file is cut into tasks of up to 16 MiB. Each of a few threads takes a task, passes its bytes through its own slab of
2 MiB (aligned to pages, touched once and reused: fresh memory costs more than the disk), digests them while they are
in the processor's cache, and moves the slab with one positional call around the page cache. A page that two tasks
share is written by whoever completes it. Where a filesystem refuses to go around the cache, as tmpfs and some network
filesystems do, everything goes through it; only the speed differs.

What is written or read in each place is known from the sizes alone, so threads never wait for one another.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from mmap import mmap
from pathlib import Path

from blake3 import blake3

from perdure.errors import Corrupt
from perdure.io.digest import of_chunks
from perdure.io.disk import DISK, Disk
from perdure.io.durable import Written
from perdure.io.plan import Task, plan
from perdure.io.workers import PAGE, share_out

BUDGET = 128 * 2**20
THREADS = 24  # most wait for the disk, which has to have more in hand than it is working on


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
    path: Path, extents: Sequence[Extent], *, budget: int = BUDGET, threads: int = THREADS, disk: Disk = DISK
) -> Written:
    """Write a new file from `extents`, one after another, and fsync it.

    The file must not exist yet. Its mode is what the umask leaves of 0666. The caller fsyncs the folder.

    Args:
        budget: Bytes of memory for slabs.
        threads: How many move bytes at once, the calling one included.

    Returns:
        The file's size, and the digest of each extent (`perdure.io.digest`).

    Raises:
        OSError: The disk is full, or refuses; the incomplete file is left for the caller's cleanup.
        Exception: Whatever a `read_into` raised.
    """
    offsets = [0, *accumulate(extent.nbytes for extent in extents)]
    tasks = list(plan([(offset, extent.nbytes) for offset, extent in zip(offsets, extents, strict=False)]))
    digests: dict[tuple[int, int], bytes] = {}
    with _open(path, disk, writing=True) as file:
        disk.allocate(file.descriptor, offsets[-1])
        share_out(tasks, partial(_write_task, file, extents, digests), budget=budget, threads=threads)
        file.finish()
        disk.fsync(file.descriptor)
    return Written(offsets[-1], _combined(digests, len(extents)))


def read(
    path: Path,
    extents: Sequence[ReadExtent],
    *,
    cached: bool = False,
    budget: int = BUDGET,
    threads: int = THREADS,
    disk: Disk = DISK,
) -> tuple[bytes, ...]:
    """Read `extents` of a file, hand their bytes on, and digest them in the same pass.

    Bytes are handed on before anything is known of their digest: comparing is the caller's.

    Args:
        cached: Whether the page cache's copy will do, where it holds one of the whole file. It is faster than most
            disks, but says nothing of what is on the disk.
        budget: Bytes of memory for slabs.
        threads: How many move bytes at once, the calling one included.

    Returns:
        The digest of each extent (`perdure.io.digest`).

    Raises:
        Corrupt: The file ends before an extent does.
        OSError: The file cannot be read.
        Exception: Whatever a `write_from` raised.
    """
    tasks = list(plan([(extent.offset, extent.nbytes) for extent in extents]))
    digests: dict[tuple[int, int], bytes] = {}
    with _open(path, disk, writing=False, cached=cached) as file:
        share_out(tasks, partial(_read_task, file, extents, digests), budget=budget, threads=threads)
    return _combined(digests, len(extents))


def _combined(digests: dict[tuple[int, int], bytes], count: int) -> tuple[bytes, ...]:
    chunks: list[list[bytes]] = [[] for _ in range(count)]
    for (extent, _), digest in sorted(digests.items()):
        chunks[extent].append(digest)
    return tuple(map(of_chunks, chunks))


class _File:
    """An open file with two roads: around the page cache while that works, and through it."""

    def __init__(self, path: Path, disk: Disk, descriptor: int, around: int | None) -> None:
        self.path = path
        self.descriptor = descriptor
        self._disk = disk
        self._around = around
        self._parted: dict[int, tuple[memoryview, int]] = {}  # page → its memory, and how much of it is there
        self._lock = threading.Lock()

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data`, whose memory is aligned as `offset` is; parts of pages when their rest is there."""
        begin = min(-offset % PAGE, len(data))
        end = max(begin, len(data) - (offset + len(data)) % PAGE)
        if self._around is None:
            begin, end = 0, len(data)
        self._put(data[:begin], offset)
        self._write(data[begin:end], offset + begin)
        self._put(data[end:], offset + end)

    def finish(self) -> None:
        """Write what fills no page: the end of the file."""
        for page, (memory, filled) in self._parted.items():
            self._write(memory[:filled], page)

    def _put(self, part: memoryview, offset: int) -> None:
        """Keep a part of a page until all of it is there.

        Written at once it would go through the page cache, and wait until no other thread is writing to the file.
        """
        if not len(part):
            return
        page, at = offset - offset % PAGE, offset % PAGE
        with self._lock:
            memory, filled = self._parted.pop(page) if page in self._parted else (memoryview(mmap(-1, PAGE)), 0)
            memory[at : at + len(part)] = part
            filled += len(part)
            if filled < PAGE:
                self._parted[page] = memory, filled
        if filled == PAGE:
            self._write(memory, page)

    def _write(self, data: memoryview, offset: int) -> None:
        done = self._write_around(data, offset)
        while done < len(data):
            done += self._disk.write(self.descriptor, data[done:], offset + done)

    def _write_around(self, data: memoryview, offset: int) -> int:
        """Write whole pages; returns how many bytes, which are fewer where this road is closed or ends."""
        done, descriptor = 0, self._around
        while descriptor is not None and done + PAGE <= len(data) and done % PAGE == 0:
            try:
                done += self._disk.write(descriptor, data[done:], offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._around = descriptor = None  # some filesystems let a file be opened so, but not written
        return done

    def read(self, out: memoryview, offset: int, need: int) -> None:
        """Fill `out` from a page boundary on; of the last `len(out) - need` bytes the file may have fewer."""
        descriptor = self.descriptor if self._around is None else self._around
        got = 0
        while got < need:
            try:
                count = self._disk.read(descriptor, out[got:], offset + got)
            except OSError as error:
                if error.errno != errno.EINVAL or descriptor == self.descriptor:
                    raise
                self._around, descriptor = None, self.descriptor
                continue
            if count == 0:
                raise Corrupt(f"{self.path} ends at byte {offset + got}, before its contents do.", path=self.path)
            got += count
            if got % PAGE:  # at the end of the file, or interrupted: only the cache serves from such a place
                descriptor = self.descriptor


@contextmanager
def _open(path: Path, disk: Disk, *, writing: bool, cached: bool = False) -> Iterator[_File]:
    with ExitStack() as stack:
        descriptor = disk.create(path) if writing else disk.open(path)
        stack.callback(disk.close, descriptor)
        through = cached and disk.is_cached(descriptor)
        around = None if through else disk.open_around_cache(path, writing=writing)
        if around is not None:
            stack.callback(disk.close, around)
        yield _File(path, disk, descriptor, around)


def _write_task(
    file: _File, extents: Sequence[Extent], digests: dict[tuple[int, int], bytes], task: Task, slab: memoryview
) -> None:
    filled = begin = task.offset % PAGE  # so that what lies on a page of the file lies on a page of memory
    offset = task.offset
    for piece in task.pieces:
        hasher, done = blake3(), 0
        while done < piece.nbytes:
            out = slab[filled : filled + piece.nbytes - done]
            extents[piece.extent].read_into(piece.start + done, out)
            hasher.update(out)
            done += len(out)
            filled += len(out)
            if filled == len(slab):
                file.write(slab[begin:filled], offset)
                offset += filled - begin
                filled = begin = 0
        digests[piece.extent, piece.start] = hasher.digest()
    file.write(slab[begin:filled], offset)


def _read_task(
    file: _File, extents: Sequence[ReadExtent], digests: dict[tuple[int, int], bytes], task: Task, slab: memoryview
) -> None:
    position = filled = 0  # of the slab: where the next bytes are, and where they end
    offset, end = task.offset - task.offset % PAGE, task.offset + task.nbytes
    skip = task.offset - offset
    for piece in task.pieces:
        hasher, done = blake3(), 0
        while done < piece.nbytes:
            if position == filled:
                filled = min(len(slab), end - offset)
                file.read(slab[: filled + -filled % PAGE], offset, filled)
                position, skip = skip, 0
                offset += filled
            data = slab[position : min(filled, position + piece.nbytes - done)]
            hasher.update(data)
            extents[piece.extent].write_from(piece.start + done, data)
            done += len(data)
            position += len(data)
        digests[piece.extent, piece.start] = hasher.digest()
