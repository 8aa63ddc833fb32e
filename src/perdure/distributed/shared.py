"""Do all processes see the same folder?"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from perdure.distributed.group import Group
from perdure.errors import InvalidInput

_PATIENCE = 5.0  # seconds until a network filesystem has shown to all what one wrote
_PAUSE = 0.1


def check_shared(folder: Path, group: Group) -> None:
    """See that all ranks have the same folder before them.

    Raises:
        InvalidInput: One does not see what rank 0 writes there.
    """
    if group.size == 1:
        return
    probe: Path | None = None

    def write() -> str:
        nonlocal probe
        if group.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".perdure-probe-", dir=folder)
            os.close(descriptor)
            probe = Path(name)
        return probe.name if probe else ""

    def look(name: str) -> bool:
        until = time.monotonic() + _PATIENCE
        while not (folder / name).exists():
            if time.monotonic() > until:
                return False
            time.sleep(_PAUSE)
        return True

    try:
        name = group.agree(write, error=InvalidInput)[0]
        seen = group.agree(lambda: look(name))
    finally:
        if probe is not None:
            with suppress(OSError):
                probe.unlink()
    if not all(seen):
        raise InvalidInput(
            f"Rank {seen.index(False)} does not see what rank 0 writes into {folder}: they have separate disks.",
            hint="Put the run's folder on storage that all machines mount (NFS, Lustre, …).",
        )
