"""Folders of a repository that are published by themselves, such as `last-checkpoint` beside the model.

A folder that holds a manifest is a publication of its own: what is pushed to the root, promoted to it or pulled from it
leaves that folder alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from perdure.format.names import MANIFEST

_File = TypeVar("_File")


def joined(folder: str, path: str) -> str:
    """The path in the repository of a file of one of its folders; "" is the root.

    >>> joined("last-checkpoint", "config.json"), joined("", "config.json")
    ('last-checkpoint/config.json', 'config.json')
    """
    return f"{folder}/{path}" if folder else path


def own_files(tree: Mapping[str, _File], folder: str = "") -> dict[str, _File]:
    """The files of a tree that are what was pushed to `folder`, by their paths in it.

    >>> tree = {"config.json": 1, "last/perdure.json": 2, "last/config.json": 3}
    >>> own_files(tree), own_files(tree, "last")
    ({'config.json': 1}, {'perdure.json': 2, 'config.json': 3})
    """
    start = joined(folder, "")
    below = {path.removeprefix(start): file for path, file in tree.items() if path.startswith(start)}
    others = set(published(below))
    return {path: file for path, file in below.items() if others.isdisjoint(_parents(path))}


def published(tree: Mapping[str, object]) -> list[str]:
    """The folders of a tree that hold a manifest.

    >>> published({"perdure.json": 1, "last/perdure.json": 2})
    ['last']
    """
    return [path.removesuffix(f"/{MANIFEST}") for path in tree if path.endswith(f"/{MANIFEST}")]


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
