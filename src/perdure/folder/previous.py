"""The folder that a save is about to replace: what of it the older save wrote, and who may use it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from perdure.errors import Corrupt, NotFound, UnsupportedFormat
from perdure.folder.paths import files_of
from perdure.format.manifest import FileEntry, read_manifest
from perdure.format.names import CARD, MANIFEST, is_read_by_loaders
from perdure.io.digest import as_text, digest_file


def sort_out(folder: Path, stale: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """What is in a folder: paths of the older save's files, and of everything else.

    Of files that no loader reads, those that a person has edited since are the person's, and so is the card, in any
    case: a save that brings none must not take their words away.
    """
    try:
        known: Mapping[str, FileEntry] = read_manifest(folder).files
    except (NotFound, Corrupt, UnsupportedFormat):
        known = {}
    ours: list[str] = []
    others: list[str] = []
    for name in files_of(folder):
        entry = known.get(name)
        of_save = entry is not None and (
            entry.tensors or is_read_by_loaders(name) or (name != CARD and _is_unchanged(folder / name, entry))
        )
        (ours if of_save or name == MANIFEST or stale(name) else others).append(name)
    return ours, others


def _is_unchanged(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and as_text(digest_file(path)[1]) == entry.digest


def copy_access(old: Path, new: Path) -> None:
    """Give the new folder the old one's mode, and it and its files the group, where we may."""
    group = old.stat().st_gid
    if group != new.stat().st_gid:
        for path in (new, *new.rglob("*")):
            with suppress(OSError):
                os.chown(path, -1, group, follow_symlinks=False)
    shutil.copymode(old, new)  # last: a change of group takes the setgid bit away
