"""One thread's way of reading or writing: slabs that it works on, while others are on their way from or to the disk."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

from perdure.io.file import File
from perdure.io.plan import Task
from perdure.io.workers import PAGE, make_slab

T = TypeVar("T", bound="_Lane")


class _Lane:
    """`depth` slabs of `size` bytes, and those of them that the kernel has in hand.

    Where the kernel takes none, everything is done at once, and one slab is enough.
    """

    def __init__(self, file: File, *, depth: int, size: int) -> None:
        self._file = file
        self._size = size
        self._queue = file.queue(depth)
        self._free = list(range(depth))[::-1]
        self._slabs: dict[int, memoryview] = {}

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        idle = False
        try:
            if error is None:
                self._finish()
                idle = True
        finally:
            if self._queue is not None:
                self._queue.close(idle=idle)

    def _finish(self) -> None:
        """Wait for what has not been waited for."""

    def _take(self) -> int:
        slot = self._free.pop()
        if slot not in self._slabs:
            self._slabs[slot] = make_slab(self._size)
        return slot

    def _submit(self, slot: int, data: memoryview, offset: int, *, reading: bool) -> bool:
        queue, around = self._queue, self._file.around
        if queue is None or around is None or not len(data):
            return False
        return queue.submit(slot, around, data, offset, reading=reading)

    def _wait(self) -> list[tuple[int, int]]:
        """Of each request that is done, the slot and how many bytes were moved; of one to be done over, 0."""
        assert self._queue is not None
        done = self._queue.wait()
        for _, result in done:
            if result < 0 and result != -errno.EINVAL:  # some filesystems let a file be opened so, but not used
                raise OSError(-result, os.strerror(-result), str(self._file.path))
        return [(slot, max(0, result)) for slot, result in done]


class WriteLane(_Lane):
    """A lane towards the disk."""

    def __init__(self, file: File, *, depth: int, size: int) -> None:
        super().__init__(file, depth=depth, size=size)
        self._current = -1
        self._under_way: dict[int, tuple[memoryview, int]] = {}

    def slab(self) -> memoryview:
        """A slab that is free to be filled; the one before was written."""
        while not self._free:
            self._complete()
        self._current = self._take()
        return self._slabs[self._current]

    def write(self, data: memoryview, offset: int) -> None:
        """Write what was filled of the slab; on return it is written, or will be before the lane is left."""
        pages, begin = self._file.keep_parts(data, offset)
        if self._submit(self._current, pages, begin, reading=False):
            self._under_way[self._current] = pages, begin
        else:
            self._file.write(pages, begin)
            self._free.append(self._current)

    def _finish(self) -> None:
        while self._under_way:
            self._complete()

    def _complete(self) -> None:
        for slot, count in self._wait():
            pages, begin = self._under_way.pop(slot)
            if count < len(pages):  # the disk is nearly full
                self._file.write(pages[count:], begin + count)
            self._free.append(slot)


class ReadLane(_Lane):
    """A lane from the disk, which reads what the tasks to come will ask for."""

    def __init__(self, file: File, tasks: Iterator[Task], *, depth: int, size: int) -> None:
        super().__init__(file, depth=depth, size=size)
        self._tasks: deque[Task] = deque()
        self._blocks = self._cut(tasks)
        self._ahead: deque[tuple[int, int, int]] = deque()  # slot, offset in the file, bytes that are needed
        self._under_way: set[int] = set()
        self._counts: dict[int, int] = {}
        self._current: int | None = None

    def tasks(self) -> Iterator[Task]:
        """The tasks; of each one, all blocks must be asked for by `read` before the next."""
        while True:
            self._read_ahead()
            if not self._tasks:
                return
            yield self._tasks.popleft()

    def read(self) -> memoryview:
        """The next block of the task, which begins on a page of the file and is valid until the next call."""
        self._read_ahead()
        slot, offset, need = self._ahead.popleft()
        while slot in self._under_way:
            for done, count in self._wait():
                self._under_way.remove(done)
                self._counts[done] = count
        slab = self._slabs[slot]
        if self._counts.pop(slot, need) < need:
            self._file.read(slab[: need + -need % PAGE], offset, need)
        self._current = slot
        return slab[:need]

    def _read_ahead(self) -> None:
        if self._current is not None:
            self._free.append(self._current)
            self._current = None
        while self._free and (block := next(self._blocks, None)):
            slot, (offset, need) = self._take(), block
            out = self._slabs[slot][: need + -need % PAGE]
            if self._submit(slot, out, offset, reading=True):
                self._under_way.add(slot)
            else:
                self._file.read(out, offset, need)
            self._ahead.append((slot, offset, need))

    def _cut(self, tasks: Iterator[Task]) -> Iterator[tuple[int, int]]:
        for task in tasks:
            self._tasks.append(task)
            begin, end = task.offset - task.offset % PAGE, task.offset + task.nbytes
            for offset in range(begin, end if task.nbytes else begin, self._size):
                yield offset, min(self._size, end - offset)
