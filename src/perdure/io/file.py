"""An open file with two roads to the disk: around the page cache where that works, and through it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from mmap import mmap
from pathlib import Path

from perdure.errors import Corrupt
from perdure.io.aio import Queue
from perdure.io.disk import Disk
from perdure.io.workers import PAGE


class File:
    """An open file with two roads: around the page cache while that works, and through it."""

    def __init__(self, path: Path, disk: Disk, descriptor: int, around: int | None) -> None:
        self.path = path
        self.descriptor = descriptor
        self.around = around
        self._disk = disk
        self._parted: dict[int, tuple[memoryview, int]] = {}  # page → its memory, and how much of it is there
        self._lock = threading.Lock()

    @property
    def queues(self) -> bool:
        """Whether reads and writes can be handed to the kernel."""
        return self.around is not None and self._disk.queues

    def queue(self, depth: int) -> Queue | None:
        """Room for `depth` requests in the kernel's hands, for one thread; None where there is none."""
        return self._disk.queue(depth) if self.queues else None

    def keep_parts(self, data: memoryview, offset: int) -> tuple[memoryview, int]:
        """Keep the parts of pages with which `data` begins and ends, and return the whole pages between, and where."""
        begin = min(-offset % PAGE, len(data))
        end = max(begin, len(data) - (offset + len(data)) % PAGE)
        self._keep(data[:begin], offset)
        self._keep(data[end:], offset + end)
        return data[begin:end], offset + begin

    def finish(self) -> None:
        """Write what fills no page: the end of the file."""
        for page, (memory, filled) in self._parted.items():
            self.write(memory[:filled], page)

    def _keep(self, part: memoryview, offset: int) -> None:
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
            self.write(memory, page)

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data`, whose memory is aligned as `offset` is."""
        done = self._write_around(data, offset)
        while done < len(data):
            done += self._disk.write(self.descriptor, data[done:], offset + done)

    def _write_around(self, data: memoryview, offset: int) -> int:
        """Write whole pages; returns how many bytes, which are fewer where this road is closed or ends."""
        done, descriptor = 0, self.around
        while descriptor is not None and done + PAGE <= len(data) and (offset + done) % PAGE == 0:
            try:
                done += self._disk.write(descriptor, data[done:], offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self.around = descriptor = None  # some filesystems let a file be opened so, but not written
        return done

    def read(self, out: memoryview, offset: int, need: int) -> None:
        """Fill `out` from a page boundary on; of the last `len(out) - need` bytes the file may have fewer."""
        descriptor = self.descriptor if self.around is None else self.around
        got = 0
        while got < need:
            try:
                count = self._disk.read(descriptor, out[got:], offset + got)
            except OSError as error:
                if error.errno != errno.EINVAL or descriptor == self.descriptor:
                    raise
                self.around, descriptor = None, self.descriptor
                continue
            if count == 0:
                raise Corrupt(f"{self.path} ends at byte {offset + got}, before its contents do.", path=self.path)
            got += count
            if got % PAGE:  # at the end of the file, or interrupted: only the cache serves from such a place
                descriptor = self.descriptor


@contextmanager
def open_file(path: Path, disk: Disk, *, writing: bool, cached: bool = False) -> Iterator[File]:
    """Open a file by both roads, or a new one for `writing`; if `cached`, by the page cache alone where that holds it.

    It is closed at the end of the block; to finish and fsync it is up to the caller.

    Raises:
        OSError: There is no such file, or, for writing, there is one.
    """
    with ExitStack() as stack:
        descriptor = disk.create(path) if writing else disk.open(path)
        stack.callback(disk.close, descriptor)
        through = cached and disk.is_cached(descriptor)
        around = None if through else disk.open_around_cache(path, writing=writing)
        if around is not None:
            stack.callback(disk.close, around)
        yield File(path, disk, descriptor, around)
