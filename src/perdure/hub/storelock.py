"""One process at a time may write to a store; the system lets go of it when that ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

from perdure.errors import InvalidInput
from perdure.io.locks import Lock, hold


def take_store(folder: Path) -> int | None:
    """Hold a store: a descriptor for `perdure.io.locks.release`, or None when another process has it.

    Raises:
        InvalidInput: The filesystem has no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    held = hold(descriptor)
    if held is Lock.TAKEN:
        return descriptor
    os.close(descriptor)
    if held is Lock.BUSY:
        return None
    raise InvalidInput(
        f"{folder} is on a filesystem without locks, where two hubs could write to one store.",
        hint="Give the hub a folder on a local disk with --dir.",
    )
