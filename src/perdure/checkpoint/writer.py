"""One process at a time trains in a run's folder: a lock from its first save on, which ends with the process.

POSIX record locks belong to a process. So a data loader's worker, which may outlive a trainer that was killed, does not
have it, and Checkpointers of one process share it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import InvalidInput
from perdure.format.names import WRITER_LOCK
from perdure.io.durable import make_folders

_BUSY = (errno.EACCES, errno.EAGAIN)
_PATIENCE = 2.0  # seconds: one that was just killed is still on its way out
_PAUSE = 0.05


@dataclass(slots=True)
class _Held:
    path: Path
    descriptor: int
    holders: int


_held: dict[tuple[int, Path], _Held] = {}  # by process, for a fork copies it, and has none of the locks
_guard = threading.Lock()


class Writer:
    """The claim of one Checkpointer on its run's folder."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._mine: tuple[int, Path] | None = None

    def claim(self, *, make: bool) -> None:
        """Keep other processes from training here until `release`; where nothing can be locked, nobody is kept.

        Args:
            make: Make the folder where there is none; otherwise there is nothing to claim yet.

        Raises:
            InvalidInput: Another process is training here.
        """
        key = os.getpid(), self._run
        if self._mine == key or not (make or self._run.is_dir()):
            return
        with _guard:
            if key not in _held and (locked := _locked(self._run)) is not None:
                _held[key] = locked
            if key in _held:
                _held[key].holders += 1
                self._mine = key

    def release(self) -> None:
        """Let others train here; doing so twice changes nothing more."""
        mine, self._mine = self._mine, None
        if mine is None or mine[0] != os.getpid():
            return
        with _guard:
            held = _held[mine]
            held.holders -= 1
            if held.holders:
                return
            del _held[mine]
            with suppress(OSError):
                held.path.unlink()
            os.close(held.descriptor)
            with suppress(OSError):  # there is more in it
                held.path.parent.rmdir()


def _locked(run: Path) -> _Held | None:
    path, until = run / WRITER_LOCK, time.monotonic() + _PATIENCE
    while True:
        try:
            make_folders(path.parent)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # its last holder has just removed it
            continue
        except OSError:  # a folder that can only be read, a full disk: whoever writes will be told
            return None
        kept = False
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if kept := _is_at(path, descriptor):  # otherwise its last holder has just removed it
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return _Held(path, descriptor, 0)
        except OSError as error:
            if kept:  # it cannot be written into, and is locked all the same
                return _Held(path, descriptor, 0)
            if error.errno not in _BUSY:  # no locks here
                return None
            if time.monotonic() > until:
                raise _refusal(run, descriptor) from None
            time.sleep(_PAUSE)
        finally:
            if not kept:
                os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _refusal(run: Path, descriptor: int) -> InvalidInput:
    said = os.pread(descriptor, 20, 0)
    who = f"process {said.decode()}" if said.isdigit() else "another process"
    return InvalidInput(
        f"{run} is the folder of a run that {who} is training; two would delete each other's checkpoints. "
        "Nothing was changed.",
        hint="End that one first, or name another folder.",
    )
