"""One thread's way of writing: slabs that it fills, while others are on their way to the disk."""

from __future__ import annotations

import errno
import os
from types import TracebackType

from perdure.io.file import File
from perdure.io.workers import make_slab


class Lane:
    """`depth` slabs of `size` bytes, and the writes of them that the kernel has in hand.

    Where the kernel takes none, each write is done at once, and one slab is enough.
    """

    def __init__(self, file: File, *, depth: int, size: int) -> None:
        self._file = file
        self._size = size
        self._queue = file.queue(depth)
        self._free = list(range(depth))[::-1]
        self._slabs: dict[int, memoryview] = {}
        self._current = -1
        self._under_way: dict[int, tuple[memoryview, int]] = {}

    def __enter__(self) -> Lane:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._under_way and error is None:
                self._wait()
        finally:
            if self._queue is not None:
                self._queue.close()

    def slab(self) -> memoryview:
        """A slab that is free to be filled; the one before was written."""
        while not self._free:
            self._wait()
        slot = self._current = self._free.pop()
        if slot not in self._slabs:
            self._slabs[slot] = make_slab(self._size)
        return self._slabs[slot]

    def write(self, data: memoryview, offset: int) -> None:
        """Write what was filled of the slab; on return it is written, or will be before the lane is left."""
        slot, around = self._current, self._file.around
        pages, begin = self._file.keep_parts(data, offset)
        if self._queue and around is not None and len(pages) and self._queue.submit(slot, around, pages, begin):
            self._under_way[slot] = pages, begin
        else:
            self._file.write(pages, begin)
            self._free.append(slot)

    def _wait(self) -> None:
        assert self._queue is not None
        for slot, result in self._queue.wait():
            pages, begin = self._under_way.pop(slot)
            if result < 0 and result != -errno.EINVAL:
                raise OSError(-result, os.strerror(-result), str(self._file.path))
            if result < len(pages):  # the disk is nearly full, or the filesystem refuses this road after all
                done = max(0, result)
                self._file.write(pages[done:], begin + done)
            self._free.append(slot)
