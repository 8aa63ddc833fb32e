"""Refs are files: of "a" and "a/b" only one can exist, and a folder that is left over stands in a ref's way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dulwich.refs import Ref


def first_clash(refs: Iterable[Ref], taken: set[Ref]) -> Ref | None:
    """The first of `refs` that cannot be beside those taken and those before it."""
    taken, folders = set(taken), {folder for name in taken for folder in _folders(name)}
    for ref in refs:
        if ref in taken or ref in folders or not taken.isdisjoint(_folders(ref)):
            return ref
        taken.add(ref)
        folders.update(_folders(ref))
    return None


def _folders(ref: Ref) -> list[Ref]:
    return [Ref(ref[:end]) for end, byte in enumerate(ref) if byte == ord("/")]


def clear_place(place: Path) -> None:
    """Remove the folders without refs where a ref is to be, and the lock files that a killed server left in them."""
    if not place.is_dir():
        return
    for lock in place.rglob("*.lock"):
        lock.unlink()
    for folder in sorted(place.rglob("*"), reverse=True):
        folder.rmdir()
    place.rmdir()
