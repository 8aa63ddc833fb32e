"""The system calls that move a file's bytes, in one place: what a disk can refuse, tests let it refuse here."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from perdure.io.aio import Queue, is_available

_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_DIRECT = getattr(os, "O_DIRECT", 0)
_SAMPLE = 64


class Disk:
    """The real one. Descriptors are plain integers; every method may raise `OSError`."""

    def create(self, path: Path) -> int:
        """Make a new file to write to; its mode is what the umask leaves of 0666."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def open(self, path: Path) -> int:
        """Open a file to read from."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def open_around_cache(self, path: Path, *, writing: bool) -> int | None:
        """Open an existing file a second time, around the page cache; None where that is refused from the start."""
        if not _DIRECT:
            return None
        try:
            return os.open(path, (os.O_WRONLY if writing else os.O_RDONLY) | _DIRECT | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _NOT_SUPPORTED:
                return None
            raise

    def is_cached(self, descriptor: int) -> bool:
        """Whether the page cache holds all of a file, as far as a sample of its pages tells."""
        status = os.fstat(descriptor)
        call = _mincore_call()
        if call is None or status.st_size == 0 or os.geteuid() not in (0, status.st_uid):
            return False  # of other people's files the system says that all of it is there, whatever is
        with mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_COPY) as mapped:
            begin = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
            pages = -(-status.st_size // mmap.PAGESIZE)
            return all(call(begin + page * mmap.PAGESIZE) for page in range(0, pages, max(1, pages // _SAMPLE)))

    def allocate(self, descriptor: int, size: int) -> None:
        """Give the file its size, and where the filesystem can, the room on the disk for it."""
        call = _fallocate_call()
        if call is None or size == 0:
            return os.truncate(descriptor, size)
        while code := call(descriptor, size):
            if code in _NOT_SUPPORTED:
                return os.truncate(descriptor, size)
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
        return None

    @property
    def queues(self) -> bool:
        """Whether reads and writes can be handed to the kernel."""
        return _queues()

    def queue(self, depth: int) -> Queue | None:
        """Room for `depth` requests in the kernel's hands; None where the system has no more to give."""
        try:
            return Queue(depth)
        except OSError:
            return None

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        """Write at a place in the file; returns how many bytes, which may be fewer."""
        return os.pwrite(descriptor, data, offset)

    def read(self, descriptor: int, out: memoryview, offset: int) -> int:
        """Read from a place in the file; returns how many bytes, which may be fewer, and 0 at the end."""
        return os.preadv(descriptor, [out], offset)

    def fsync(self, descriptor: int) -> None:
        """Return when everything written is on the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)


@cache
def _queues() -> bool:
    return is_available()


@cache
def _fallocate_call() -> Callable[[int, int], int] | None:
    """`fallocate(2)` as a function that returns an errno, or 0.

    `os.posix_fallocate` will not do: where a filesystem has no such call, the C library writes into every block.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fallocate64"):
        return None
    call = libc.fallocate64
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return lambda descriptor, size: ctypes.get_errno() if call(descriptor, 0, 0, size) else 0


@cache
def _mincore_call() -> Callable[[int], bool] | None:
    """`mincore(2)` as a function of the address of one page: whether it is in memory."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mincore"):
        return None
    call, answer = libc.mincore, ctypes.create_string_buffer(1)
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    return lambda address: call(address, 1, answer) == 0 and answer.raw[0] & 1 == 1


DISK = Disk()
