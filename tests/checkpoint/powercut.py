"""A disk that forgets: what a recorded sequence of system calls may leave when the power fails after any of them.

The model is POSIX's, and harder than any journalling filesystem's: a file's bytes are sure to last only up to its last
fsync, and an entry of a folder only once that folder was synced. What was not synced may last as well, in part or as a
hole. A rename is one change of two folders and never half done; changes of one folder last in their order, those of
different folders in any.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from perdure.folder import commit
from perdure.io.aio import Queue
from perdure.io.disk import Disk

Write = tuple[int, bytes]  # where, what; an empty one past the end makes a hole
Tree = dict[str, Any]  # name → bytes of a file, or Tree


@dataclass(eq=False)
class Node:
    """A file or folder, whatever it is called; `writes` of a file up to `synced` are sure to last."""

    is_folder: bool
    writes: list[Write] = field(default_factory=list)
    synced: int = 0


@dataclass(eq=False)
class Change:
    """Entries of folders that change together: (folder, name, what it names from now on)."""

    entries: list[tuple[Node, str, Node | None]]

    @property
    def folders(self) -> set[Node]:
        return {folder for folder, _, _ in self.entries}


class PowerCut:
    """Everything that happened to a disk so far, in order, and what a cut now may leave."""

    def __init__(self) -> None:
        self.root = Node(is_folder=True)
        self._changes: list[Change] = []
        self._sure: set[Change] = set()
        self._files: list[Node] = []

    def play(self, event: tuple[Any, ...]) -> None:
        """One event of a `Recorder`."""
        what, *arguments = event
        getattr(self, f"_{what}")(*arguments)

    def _create(self, path: str) -> None:
        node = Node(is_folder=False)
        self._files.append(node)
        self._change((path, node))

    def _mkdir(self, path: str) -> None:
        self._change((path, Node(is_folder=True)))

    def _remove(self, path: str) -> None:
        self._change((path, None))

    def _rename(self, source: str, target: str) -> None:
        self._change((source, None), (target, self._find(source)))

    def _exchange(self, one: str, other: str) -> None:
        self._change((one, self._find(other)), (other, self._find(one)))

    def _link(self, source: str, target: str) -> None:
        self._change((target, self._find(source)))

    def _write(self, path: str, offset: int, data: bytes) -> None:
        self._find(path).writes.append((offset, data))

    def _sync(self, path: str) -> None:
        node = self._find(path)
        if node.is_folder:
            self._sure |= {change for change in self._changes if node in change.folders}
            self._sure = self._with_earlier(self._sure)
        else:
            node.synced = len(node.writes)

    def _change(self, *entries: tuple[str, Node | None]) -> None:
        named = [(self._find(str(Path(path).parent)), Path(path).name, node) for path, node in entries]
        self._changes.append(Change(named))

    def _find(self, path: str) -> Node:
        node = self.root
        for name in Path(path).parts:
            found = self._entries(self._changes)[node][name]
            assert found is not None, path
            node = found
        return node

    @staticmethod
    def _entries(changes: list[Change]) -> dict[Node, dict[str, Node]]:
        entries: dict[Node, dict[str, Node]] = {}
        for change in changes:
            for folder, name, node in change.entries:
                names = entries.setdefault(folder, {})
                names.pop(name, None)
                if node is not None:
                    names[name] = node
        return entries

    def _with_earlier(self, chosen: set[Change]) -> set[Change]:
        """`chosen`, and each earlier change of a folder that one of them changes."""
        touched: set[Node] = set()
        found: set[Change] = set()
        for change in reversed(self._changes):
            if change in chosen or change.folders & touched:
                found.add(change)
                touched |= change.folders
        return found

    def outcomes(self, chance: random.Random, count: int) -> Iterator[Tree]:
        """What a cut now may leave: as little as possible, everything, names without bytes, and `count` by chance."""
        everything = set(self._changes)
        yield self._tree(self._sure, lambda node: _content(node, node.synced))
        yield self._tree(everything, lambda node: _content(node, len(node.writes)))
        yield self._tree(everything, lambda node: _content(node, node.synced))
        for _ in range(count):
            some = self._with_earlier(self._sure | {one for one in self._changes if chance.random() < 0.3})
            yield self._tree(some, lambda node: _by_chance(node, chance))

    def _tree(self, changes: set[Change], content: Callable[[Node], bytes]) -> Tree:
        entries = self._entries([change for change in self._changes if change in changes])
        data = {node: content(node) for node in self._files}

        def tree_of(folder: Node) -> Tree:
            names = sorted(entries.get(folder, {}).items())
            return {name: tree_of(node) if node.is_folder else data[node] for name, node in names}

        return tree_of(self.root)


def _content(node: Node, count: int) -> bytes:
    return _written(node.writes[:count])


def _by_chance(node: Node, chance: random.Random) -> bytes:
    """What was synced, and of the rest nothing, some writes whole or in part, or their room without their bytes."""
    late: list[Write] = []
    for offset, data in node.writes[node.synced :]:
        how = chance.randrange(4)
        if how == 1:
            late.append((offset, data[: chance.randrange(len(data) + 1)]))
        elif how > 1:
            late.append((offset, data if how == 2 else bytes(len(data))))
    return _written([*node.writes[: node.synced], *late])


def _written(writes: list[Write]) -> bytes:
    content = bytearray()
    for offset, data in writes:
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data
    return bytes(content)


def put(tree: Tree, folder: Path) -> None:
    """Make a folder hold `tree`."""
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            put(content, folder / name)
        else:
            (folder / name).write_bytes(content)


def tree_in(folder: Path) -> Tree:
    """What a folder holds."""
    return {path.name: tree_in(path) if path.is_dir() else path.read_bytes() for path in sorted(folder.iterdir())}


class Recorder:
    """Notes every call that changes something below `root`, in the order in which they happened."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._root = root
        self._lock = threading.RLock()
        self._watch(patch, os, "open", lambda made, path, flags, *rest, **named: self._opened(path, flags))
        self._watch(patch, os, "mkdir", lambda made, path, *rest, **named: self._note("mkdir", path))
        self._watch(patch, os, "rename", lambda made, old, new, **named: self._note("rename", old, new))
        self._watch(patch, os, "link", lambda made, old, new, **named: self._note("link", old, new))
        self._watch(patch, os, "fsync", lambda made, descriptor: self._note("sync", descriptor))
        for name in ("unlink", "rmdir"):
            self._watch(patch, os, name, lambda made, path, *, dir_fd=None: self._note("remove", path, within=dir_fd))
        self._watch(patch, os, "write", self._appended)
        self._watch(patch, Disk, "write", lambda count, disk, descriptor, data, offset: self._note(
            "write", descriptor, detail=(offset, bytes(data[:count]))))  # fmt: skip
        handed: dict[tuple[int, int], tuple[int, int, memoryview]] = {}
        self._watch(patch, Queue, "submit", lambda taken, queue, slot, descriptor, data, offset, *, reading: (
            reading or handed.update({(id(queue), slot): (descriptor, offset, data)})))  # fmt: skip
        self._watch(patch, Queue, "wait", lambda done, queue: [
            self._note("write", descriptor, detail=(offset, bytes(data[:count])))
            for slot, count in done if (id(queue), slot) in handed
            for descriptor, offset, data in [handed.pop((id(queue), slot))]])  # fmt: skip
        self._watch(patch, Disk, "allocate", lambda made, disk, descriptor, size: self._note(
            "write", descriptor, detail=(0, bytes(size))))  # fmt: skip
        self._watch(patch, commit, "exchange", lambda done, one, other: done and self._note("exchange", one, other))

    def note(self, event: str, *arguments: Any) -> None:
        """An event of the caller's own."""
        with self._lock:
            self.events.append((event, *arguments))

    def _watch(self, patch: pytest.MonkeyPatch, home: Any, name: str, after: Callable[..., object]) -> None:
        real = getattr(home, name)

        def call(*args: Any, **named: Any) -> Any:
            with self._lock:
                result = real(*args, **named)
                after(result, *args, **named)
            return result

        patch.setattr(home, name, call)

    def _opened(self, path: Any, flags: int) -> None:
        if flags & os.O_CREAT:
            self._note("create", path)

    def _appended(self, count: int, descriptor: int, data: Any) -> None:
        end = os.lseek(descriptor, 0, os.SEEK_CUR) if self._within(self._path(descriptor)) is not None else 0
        self._note("write", descriptor, detail=(end - count, bytes(data[:count])))

    def _note(self, what: str, *paths: Any, within: int | None = None, detail: tuple[Any, ...] = ()) -> None:
        found = [self._within(self._path(path, within)) for path in paths]
        if None not in found:
            self.events.append((what, *found, *detail))

    def _path(self, path: Any, within: int | None = None) -> str:
        if isinstance(path, int):
            return str(Path(f"/proc/self/fd/{path}").readlink())
        parent = Path.cwd() if within is None else Path(f"/proc/self/fd/{within}").readlink()
        return str(parent / os.fspath(path))

    def _within(self, path: str) -> str | None:
        relative = os.path.relpath(path, self._root)
        return None if relative.startswith("..") else relative
