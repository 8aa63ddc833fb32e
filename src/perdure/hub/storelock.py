"""One process at a time may write to a store; the system lets go of it when that ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.errors import InvalidInput
from perdure.io.locks import Lock, hold, release


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


@contextmanager
def without_server(folder: Path, *, why: str) -> Iterator[None]:
    """Keep servers away from a store for the length of the block.

    Args:
        folder: The store.
        why: Why no server may run, for people.

    Raises:
        InvalidInput: One does; nothing was changed.
    """
    held = take_store(folder)
    if held is None:
        raise InvalidInput(f"A hub is running on {folder}; nothing was changed.", hint=f"Stop it first: {why}")
    try:
        yield
    finally:
        release(held)
