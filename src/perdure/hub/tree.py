"""The files of a commit: looking them up, listing them, and building the next commit's tree."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from dulwich.objects import Commit, ObjectID, Tree

from perdure.hub import limits
from perdure.hub.git import GitRepo, Writable, written
from perdure.hub.http import ApiError, bad_request

_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,19})\n"
)
MAX_POINTER: Final = 1024
"""Bytes a pointer may have; what is larger is a file."""
_FILE: Final = 0o100644
_FOLDER: Final = 0o040000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lfs:
    """What a git-lfs pointer says: the real file's sha256 and size, and the pointer's own size."""

    oid: str
    size: int
    pointer_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or folder of a commit. `size` is the real file's, `oid` git's id of what the tree names."""

    path: str
    folder: bool
    oid: ObjectID
    size: int = 0
    lfs: Lfs | None = None

    @property
    def etag(self) -> str:
        """sha256 for a large file, git's blob id otherwise: what clients name files in their cache by."""
        return self.lfs.oid if self.lfs else self.oid.decode()


def entry_not_found(path: str, commit: Commit) -> ApiError:
    """The answer to a path that the commit does not have."""
    return ApiError(
        404,
        f"Entry not found: {path}",
        code="EntryNotFound",
        headers={"X-Repo-Commit": commit.id.decode()},  # tells clients which commit lacks it, so they remember
    )


def pointer(oid: str, size: int) -> bytes:
    """The git-lfs pointer of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


def parse_pointer(data: bytes) -> Lfs | None:
    """What `data` points to, or None when it is an ordinary small file."""
    match = _POINTER.fullmatch(data) if len(data) <= MAX_POINTER else None
    return Lfs(oid=match[1].decode(), size=int(match[2]), pointer_size=len(data)) if match else None


def find(git: GitRepo, commit: Commit, path: str) -> Entry | None:
    """The file or folder at `path`; the whole tree for an empty path."""
    if not path:
        return root(commit)
    found = locate(git, commit, path)
    return _entry(git, path, *found) if found else None


def locate(git: GitRepo, commit: Commit, path: str) -> tuple[int, ObjectID] | None:
    """Git's mode and id of what is at `path`, whatever it is."""
    tree = _folder(git, commit.tree)
    *folders, name = path.encode().split(b"/")
    for folder in folders:
        mode, oid = _child(tree, folder)
        if oid is None or not stat.S_ISDIR(mode):
            return None
        tree = _folder(git, oid)
    mode, oid = _child(tree, name)
    return (mode, oid) if oid is not None else None


def _folder(git: GitRepo, oid: ObjectID) -> Tree:
    """A folder, which is read once for each request as long as all of them fit."""
    tree = git.folders.get(oid)
    if tree is None:
        stored = git.store[oid]
        assert isinstance(stored, Tree)
        tree = stored
        git.folder_entries += len(tree)
        if git.folder_entries > limits.TREE_FILES:
            git.folders, git.folder_entries = {}, len(tree)
        git.folders[oid] = tree
    return tree


def _child(tree: Tree, name: bytes) -> tuple[int, ObjectID | None]:
    try:
        return tree[name]
    except KeyError:
        return 0, None


def walk(git: GitRepo, folder: Entry, *, recursive: bool) -> Iterator[Entry]:
    """What is in a folder, in git's order; with `recursive`, folders are followed by what is in them."""
    prefix = f"{folder.path}/" if folder.path else ""
    for name, mode, oid in _items(git, folder.oid):
        entry = _entry(git, prefix + name.decode("utf-8", "replace"), mode, oid)
        if entry is None:
            continue
        yield entry
        if recursive and entry.folder:
            yield from walk(git, entry, recursive=True)


def _items(git: GitRepo, oid: ObjectID) -> list[tuple[bytes, int, ObjectID]]:
    return list(_folder(git, oid).iteritems())


def root(commit: Commit) -> Entry:
    """The folder that all others are in."""
    return Entry(path="", folder=True, oid=commit.tree)


def files(git: GitRepo, commit: Commit) -> Iterator[Entry]:
    """All files of a commit, in git's order."""
    return (entry for entry in walk(git, root(commit), recursive=True) if not entry.folder)


def _entry(git: GitRepo, path: str, mode: int, oid: ObjectID) -> Entry | None:
    if stat.S_ISDIR(mode):
        return Entry(path=path, folder=True, oid=oid)
    if not stat.S_ISREG(mode):
        return None  # links and submodules name things outside the repository
    size, lfs = _facts(git, oid)
    return Entry(path=path, folder=False, oid=oid, size=lfs.size if lfs else size, lfs=lfs)


def _facts(git: GitRepo, oid: ObjectID) -> tuple[int, Lfs | None]:
    known = git.facts.get(oid)
    if known is None:
        data = git.blob(oid)
        known = git.facts[oid] = (len(data), parse_pointer(data))
    return known


def last_commits(git: GitRepo, head: Commit, entries: list[Entry], *, depth: int = 1000) -> dict[str, Commit]:
    """For each entry the newest commit, along first parents, that changed it.

    Looks `depth` commits back, or fewer where the folders that changed have many entries; of what did not change in
    them, it tells the oldest.
    """
    asked = _Asked()
    for entry in entries:
        asked.add(entry.path)
    found: dict[str, Commit] = {}
    commit, work = head, limits.HISTORY_ENTRIES
    for _ in range(depth):
        if not commit.parents or work < 0 or not asked.below:
            break
        parent = git.store[commit.parents[0]]
        assert isinstance(parent, Commit)
        if parent.tree != commit.tree:
            changed, cost = asked.changed(git, commit.tree, parent.tree)
            found |= dict.fromkeys(changed, commit)
            work -= cost
        commit = parent
    return {entry.path: commit for entry in entries} | found


class _Asked:
    """Paths that are asked about, as the tree that they are."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.below: dict[bytes, _Asked] = {}

    def add(self, path: str) -> None:
        """Ask about a path."""
        at = self
        for name in path.encode().split(b"/"):
            at = at.below.setdefault(name, _Asked())
        at.path = path

    def changed(self, git: GitRepo, new: ObjectID, old: ObjectID | None) -> tuple[list[str], int]:
        """Take out the paths of which two versions of this folder differ; they, and how many entries were looked at."""
        after, before = _folder(git, new), _folder(git, old) if old else Tree()
        found, cost = [], len(before) + len(self.below)
        for name, child in list(self.below.items()):
            (mode, now), (old_mode, then) = _child(after, name), _child(before, name)
            if now == then:
                continue
            if child.path is not None:
                found.append(child.path)
                child.path = None
            if child.below and now is not None and stat.S_ISDIR(mode):
                more, extra = child.changed(git, now, then if stat.S_ISDIR(old_mode) else None)
                found += more
                cost += extra
            if not child.below:
                del self.below[name]
        return found, cost


class TreeEditor:
    """Changes to a commit's tree, in memory until `finish`. Reads only the folders it touches."""

    def __init__(self, git: GitRepo, tree: ObjectID) -> None:
        self._git = git
        self._root = _Folder.load(git, tree)

    def put(self, path: str, blob: ObjectID, mode: int = _FILE) -> None:
        """Add or replace a file; `mode` is git's, for one that is executable or a link.

        Raises:
            ApiError: 400, when one of its folders is a file, or it is a folder.
        """
        *folders, name = path.encode().split(b"/")
        at = self._root
        for folder in folders:
            child = at.child(self._git, folder)
            if child is None:
                child = at.items[folder] = _Folder({})
            if not isinstance(child, _Folder):
                raise bad_request(f"{path!r} cannot be added: one of its folders is a file.")
            at = child
        if isinstance(at.child(self._git, name), _Folder):
            raise bad_request(f"{path!r} cannot be added: it is a folder.")
        at.items[name] = (mode, blob)

    def remove(self, path: str, *, folder: bool) -> bool:
        """Remove a file, or a folder with all in it; False when there is none."""
        *folders, name = path.encode().split(b"/")
        chain = [self._root]
        for part in folders:
            child = chain[-1].child(self._git, part)
            if not isinstance(child, _Folder):
                return False
            chain.append(child)
        child = chain[-1].child(self._git, name)
        if child is None or isinstance(child, _Folder) != folder:
            return False
        del chain[-1].items[name]
        for parent, part in zip(reversed(chain[:-1]), reversed(folders), strict=True):
            nested = parent.items[part]
            if isinstance(nested, _Folder) and not nested.items:  # git keeps no empty folders
                del parent.items[part]
        return True

    def finish(self) -> tuple[ObjectID, list[Writable]]:
        """The new tree's id and the tree objects to store."""
        objects: list[Writable] = []
        return self._root.save(objects.append), objects


class _Folder:
    """An opened folder: name → (mode, id) as stored, or another opened folder."""

    def __init__(self, items: dict[bytes, tuple[int, ObjectID] | _Folder]) -> None:
        self.items = items

    @classmethod
    def load(cls, git: GitRepo, oid: ObjectID) -> _Folder:
        return cls({name: (mode, sha) for name, mode, sha in _items(git, oid)})

    def child(self, git: GitRepo, name: bytes) -> tuple[int, ObjectID] | _Folder | None:
        item = self.items.get(name)
        if isinstance(item, tuple) and stat.S_ISDIR(item[0]):
            item = self.items[name] = _Folder.load(git, item[1])
        return item

    def save(self, keep: Callable[[Writable], None]) -> ObjectID:
        tree = Tree()
        for name, item in self.items.items():
            if isinstance(item, _Folder):
                tree.add(name, _FOLDER, item.save(keep))
            else:
                tree.add(name, *item)
        keep(written(tree))
        return tree.id
