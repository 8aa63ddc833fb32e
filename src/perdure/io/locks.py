"""Advisory locks on open files and folders, freed by the system when their holder dies.

Nothing is written to lock a folder: its own descriptor carries the lock, so no lock file is ever left behind.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

_UNSUPPORTED = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


class Lock(enum.Enum):
    """What came of asking for a lock."""

    TAKEN = enum.auto()
    BUSY = enum.auto()
    UNSUPPORTED = enum.auto()  # some network filesystems do not lock folders


def hold(descriptor: int) -> Lock:
    """Ask for the lock of an open file or folder without waiting; it is held until the descriptor is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return Lock.BUSY
        if error.errno in _UNSUPPORTED:
            return Lock.UNSUPPORTED
        raise
    return Lock.TAKEN


def folder_locked(path: Path) -> AbstractContextManager[None]:
    """Hold the lock of an existing folder, waiting for whoever has it; on entry `path` still names what is locked.

    Where the filesystem has no locks the block runs without one.
    """
    return _locked(path, fcntl.LOCK_EX)


def pinned(path: Path) -> AbstractContextManager[None]:
    """Share the lock of a folder while it is read or uploaded: until then nobody replaces or deletes it.

    On entry `path` still names what is locked. Where the filesystem has no locks the block runs without one.

    Raises:
        FileNotFoundError, NotADirectoryError: There is no such folder, or not any more.
    """
    return _locked(path, fcntl.LOCK_SH)


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress_unsupported():
                fcntl.flock(descriptor, operation)
            # While we waited the folder may have been exchanged for another: then that one is to be locked.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                yield
                return
        finally:
            release(descriptor)


def release(descriptor: int) -> None:
    """Give a lock up and close its descriptor.

    Closing alone would not do where a process was forked meanwhile (a data loader's worker): it holds the lock, too.
    """
    with suppress_unsupported():
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextmanager
def suppress_unsupported() -> Iterator[None]:
    """Go on where the filesystem has no locks."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
