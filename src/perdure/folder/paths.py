"""Where a folder really lies, and what is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from perdure.errors import InvalidInput
from perdure.folder.staging import is_staging
from perdure.format.names import STAGING_PREFIX


def resolve(target: Path) -> Path:
    """The absolute folder behind links and `~`, checked as a place to save into."""
    try:
        resolved = Path(os.path.realpath(target.expanduser()))
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"{str(target)[:200]!r} cannot be a folder: {error}.") from error
    if resolved.parent == resolved:
        raise InvalidInput("A model cannot be saved into the root folder itself.", hint="Name a folder in it.")
    return resolved


def inside(folder: Path, name: str) -> Path:
    """The file `name` of `folder`, which must be in it; in the Hub's cache, in the same model's blobs.

    Raises:
        InvalidInput: It is a link that leads elsewhere.
    """
    place = folder.resolve()
    home = place.parent.parent if place.parent.name == "snapshots" else place
    path = (folder / name).resolve()
    if not path.is_relative_to(home):
        raise InvalidInput(f"{folder / name} is a link that leads out of its folder, to {path}.")
    return path


def files_of(folder: Path) -> Iterator[str]:
    """Paths within `folder` of its files, links and empty folders; staging folders are passed over."""
    for parent, folders, files in os.walk(folder):
        relative = Path(parent).relative_to(folder)
        folders[:] = [
            name for name in folders if not (name.startswith(STAGING_PREFIX) and is_staging(Path(parent) / name))
        ]
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        if not (folders or files) and relative != Path():
            yield relative.as_posix()
        for name in (*files, *links):
            yield (relative / name).as_posix()
