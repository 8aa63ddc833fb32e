"""Staging folders: where a save is written before it is put in place, and how dead writers' ones are told apart.

A staging folder lies beside its target (`.NAME.perdure-XXXX`) or inside it (`.perdure-XXXX`), on the same filesystem
so that a rename moves everything. Its writer holds its lock as long as it lives; one whose lock is free is a leftover.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from perdure.format.names import STAGING_PREFIX
from perdure.io.locks import Lock, hold

_CONTENTS = {"new", "old", "journal.json", "journal.json.part"}
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(target: Path, *, inside: bool) -> tuple[Path, int]:
    """Make a staging folder for `target`; returns it with a descriptor that holds its lock until it is closed."""
    parent, prefix = (target, STAGING_PREFIX) if inside else (target.parent, f".{target.name}{STAGING_PREFIX}")
    for _ in range(100):
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # Until we have its lock, another saver may come upon it and collect it: then a next one is made.
        try:
            descriptor = os.open(staging, _OPEN)
        except FileNotFoundError:
            continue
        if hold(descriptor) is not Lock.BUSY and is_at(staging, descriptor):
            return staging, descriptor
        os.close(descriptor)
    raise FileExistsError(errno.EEXIST, "too many savers at once", str(parent))


def abandoned(target: Path) -> Iterator[Path]:
    """Staging folders of dead writers, inside `target` and beside it; each is locked while the caller deals with it."""
    for parent, prefix in ((target, STAGING_PREFIX), (target.parent, f".{target.name}{STAGING_PREFIX}")):
        try:
            found = sorted(path for path in parent.iterdir() if path.name.startswith(prefix))
        except OSError:
            continue
        for staging in found:
            try:
                descriptor = os.open(staging, _OPEN)
            except OSError:  # a file or link of that name is nobody's staging folder, and one just gone is no leftover
                continue
            try:
                if is_staging(staging) and hold(descriptor) is Lock.TAKEN and is_at(staging, descriptor):
                    yield staging
            finally:
                os.close(descriptor)


def is_staging(path: Path) -> bool:
    """Whether a folder of such a name is one of ours: a person may have called a folder of theirs so."""
    try:
        return {entry.name for entry in path.iterdir()} <= _CONTENTS
    except OSError:
        return False


def is_at(path: Path, descriptor: int) -> bool:
    """Whether `path` still names what is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
