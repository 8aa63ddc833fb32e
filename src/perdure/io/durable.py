"""Make bytes and names last: what these functions return from survives a power cut.

A file's name lives in its folder, so a new file needs two fsyncs, its own and its folder's; a renamed one needs both
folders'. The functions here do one step each; `perdure.folder.commit` puts them in the right order.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from perdure.io.digest import Hasher

# Small enough that a writer stops soon after an interruption, large enough that system calls cost nothing.
_WRITE_SIZE = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Written:
    """A file as it was written: its size in bytes, and the digest of each of its parts in order."""

    size: int
    digests: tuple[bytes, ...]


def write_file(path: Path, parts: Iterable[bytes | memoryview]) -> Written:
    """Write a new file from `parts`, digest each in the same pass, and fsync it.

    The file must not exist yet. Its mode is what the umask leaves of 0666. The caller fsyncs the folder.

    Raises:
        OSError: The disk is full, or refuses; the incomplete file is left for the caller's cleanup.
    """
    digests: list[bytes] = []
    size = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for part in parts:
            hasher, view = Hasher(), memoryview(part).cast("B")
            for start in range(0, len(view), _WRITE_SIZE):
                piece = view[start : start + _WRITE_SIZE]
                hasher.update(piece)
                write_all(descriptor, piece)
            digests.append(hasher.digest())
            size += len(view)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return Written(size, tuple(digests))


def write_all(descriptor: int, view: memoryview) -> None:
    """Write all of `view`, a contiguous buffer of bytes."""
    while len(view):
        view = view[os.write(descriptor, view) :]  # a write may be short: at 2 GiB, or near a full disk


def fsync_file(path: Path) -> None:
    """Make the bytes of a file that somebody else wrote durable."""
    _fsync(path, os.O_RDONLY)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def fsync_tree(root: Path) -> None:
    """Make a folder and all that is in it durable, except its own name."""
    for folder, _, names in os.walk(root):
        for name in names:
            fsync_file(Path(folder, name))
        fsync_folder(Path(folder))


def make_folders(folder: Path) -> None:
    """Make `folder` and the parents it lacks, and the name of each one made durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        fsync_folder(path.parent)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a filesystem that cannot fsync a folder has nothing to wait for
            raise
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Swap two names at once, so that whoever looks finds either both old or both new.

    Returns False, with nothing changed, where the system or the filesystem cannot, or a name is a mount point.
    """
    swap = _exchange_call()
    if swap is None:
        return False
    if swap(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (
        errno.ENOSYS,
        errno.EINVAL,
        errno.EXDEV,
        errno.EBUSY,
        errno.ENOTSUP,
        errno.EPERM,
        errno.EACCES,
    ):
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


@cache
def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        rename_swap = 2  # sys/stdio.h
        return lambda one, other: int(libc.renamex_np(one, other, rename_swap))
    if hasattr(libc, "renameat2"):
        at_fdcwd, rename_exchange = -100, 2  # fcntl.h, linux/fs.h
        return lambda one, other: int(libc.renameat2(at_fdcwd, one, at_fdcwd, other, rename_exchange))
    return None
