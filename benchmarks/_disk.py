"""What a disk can do at most, and how to begin with a cold one."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_THREADS = 4
_BLOCK = 16 * 2**20


def _touched() -> memoryview:
    memory = mmap.mmap(-1, _BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    memory.write(os.urandom(1 << 20) * (_BLOCK >> 20))
    return memoryview(memory)


_SLABS = [_touched() for _ in range(_THREADS)]  # made once: the limit is the disk's, not the memory's


def raw_write(path: Path, size: int) -> None:
    """Write a new file of about `size` bytes from memory that is ready, around the page cache, and fsync it."""
    size += -size % 4096
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT)
    try:
        os.posix_fallocate(descriptor, 0, size)
        _all(size, lambda slab, offset: os.pwrite(descriptor, slab[: size - offset], offset))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def raw_read(path: Path) -> None:
    """Read a file around the page cache into memory that is ready."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        _all(os.fstat(descriptor).st_size, lambda slab, offset: os.preadv(descriptor, [slab], offset))
    finally:
        os.close(descriptor)


def _all(size: int, move: Callable[[memoryview, int], int]) -> None:
    offsets = list(range(0, size, _BLOCK))[::-1]

    def work(slab: memoryview) -> None:
        while offsets:
            move(slab, offsets.pop())

    threads = [threading.Thread(target=work, args=(slab,)) for slab in _SLABS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def fsync_tree(folder: Path) -> None:
    """Make every file of a folder durable, and the names of those."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def drop_pages(*paths: Path) -> None:
    """Take files, and those in folders, out of the page cache."""
    os.sync()
    for path in _files(paths):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def load_pages(*paths: Path) -> None:
    """Bring files, and those in folders, into the page cache."""
    for path in _files(paths):
        with path.open("rb", buffering=0) as file:
            while file.read(_BLOCK):
                pass


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield from [path] if path.is_file() else filter(Path.is_file, path.rglob("*"))
