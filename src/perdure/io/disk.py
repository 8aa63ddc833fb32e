"""The system calls that move a file's bytes, in one place: what a disk can refuse, tests let it refuse here."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_DIRECT = getattr(os, "O_DIRECT", 0)


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


DISK = Disk()
