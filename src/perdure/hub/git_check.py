"""What a pushed history must be: whole, of bounded size, with names the hub can serve and large files it holds."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dulwich.object_store import DiskObjectStore
from dulwich.objects import Blob, ObjectID, Tree

from perdure.hub import limits
from perdure.hub.core import Call
from perdure.hub.git import GitRepo
from perdure.hub.http import ApiError
from perdure.hub.paths import check_path
from perdure.hub.tree import MAX_POINTER, parse_pointer

_MOST: Final = {"blob": limits.INLINE_FILE, "tree": limits.GIT_TREE, "commit": limits.GIT_TEXT, "tag": limits.GIT_TEXT}


class Refused(Exception):
    """A push that cannot be taken, and why, for the person who pushed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _New:
    kind: str
    size: int
    id: ObjectID
    path: str


def check_objects(call: Call, git: GitRepo, quarantine: Path, tips: Sequence[ObjectID]) -> None:
    """Look at every object that `tips` bring and the repository's refs do not reach yet.

    Raises:
        Refused: One is missing, too large or wrong, or points to a large file that was never uploaded.
    """
    store = DiskObjectStore(str(quarantine))
    shapes = _Shapes(store)
    try:
        for new in _inventory(call, git, quarantine, tips):
            if new.size > _MOST[new.kind]:
                raise Refused(_too_large(new))
            if new.kind == "tree":
                shapes.measure(new.id)
            elif new.kind == "blob" and new.size <= MAX_POINTER:
                blob = store[new.id]
                assert isinstance(blob, Blob)
                _check_pointer(call, new.path, blob.data)
    finally:
        store.close()


def _inventory(call: Call, git: GitRepo, quarantine: Path, tips: Sequence[ObjectID]) -> Iterator[_New]:
    """Every new object. Git itself walks the history, and fails where something that it names is not there."""
    (quarantine / "info").mkdir(exist_ok=True)
    (quarantine / "info" / "alternates").write_bytes(bytes(git.folder / "objects") + b"\n")
    wanted = quarantine / "tips"
    wanted.write_bytes(b"".join(tip + b"\n" for tip in tips))
    variables = {"GIT_OBJECT_DIRECTORY": str(quarantine)}
    with wanted.open("rb") as tips_file:
        walk = ["rev-list", "--objects", "--stdin", "--not", "--all"]
        listing = call.commands.start(walk, git.folder, stdin=tips_file, variables=variables)
    facts = call.commands.start(
        ["cat-file", "--batch-check=%(objecttype) %(objectsize) %(objectname) %(rest)"],
        git.folder,
        stdin=listing.stdout or subprocess.DEVNULL,
        variables=variables,
    )
    try:
        assert facts.stdout is not None
        for line in facts.stdout:
            kind, size, name, path = line.rstrip(b"\n").decode("utf-8", "replace").split(" ", 3)
            yield _New(kind=kind, size=int(size), id=ObjectID(name.encode()), path=path)
    finally:
        codes = call.commands.end(facts, listing)
    if any(codes):
        raise Refused("the pack is not whole: something its history refers to was not sent")


def _too_large(new: _New) -> str:
    return (
        f"{new.path or new.id.decode()} has {new.size} bytes; in git itself a {new.kind} may have {_MOST[new.kind]}. "
        "Track it with git-lfs: git lfs migrate import --include=PATTERN"
    )


def _check_pointer(call: Call, path: str, data: bytes) -> None:
    lfs = parse_pointer(data)
    if lfs is None:
        return
    if not call.hub.holds_for(call.user, call.repo, lfs.oid) or call.hub.blobs.size(lfs.oid) != lfs.size:
        raise Refused(f"the content of {path} (sha256 {lfs.oid}) was never uploaded; run: git lfs push --all origin")


@dataclass(slots=True)
class _Shapes:
    """How deep and how large the folders under a tree are. Each tree is read once, however often it is named."""

    store: DiskObjectStore
    known: dict[ObjectID, tuple[int, int]] = field(default_factory=dict)

    def measure(self, root: ObjectID) -> None:
        """Check a tree and all below it.

        Raises:
            Refused: A name the hub cannot serve, or more folders or files than it lists.
        """
        pending = [root]
        while pending:
            trees = [] if pending[-1] in self.known else self._trees(pending[-1])
            missing = [oid for oid in trees if oid not in self.known]
            if len(pending) + len(missing) > limits.GIT_FOLDERS:
                raise Refused("a folder has too many folders in it")
            if missing:
                pending += missing
                continue
            self._sum(pending.pop())

    def _items(self, oid: ObjectID) -> list[tuple[bytes, int, ObjectID]]:
        tree = self.store[oid]
        assert isinstance(tree, Tree)
        return list(tree.iteritems())

    def _trees(self, oid: ObjectID) -> list[ObjectID]:
        return [child for _, mode, child in self._items(oid) if stat.S_ISDIR(mode)]

    def _sum(self, oid: ObjectID) -> None:
        if oid in self.known:
            return
        depth, count = 0, 0
        for name, mode, child in self._items(oid):
            _check_name(name)
            below = self.known[child] if stat.S_ISDIR(mode) else (0, 1)
            depth, count = max(depth, below[0] + 1), count + below[1]
        if depth > limits.PATH_DEPTH or count > limits.TREE_FILES:
            raise Refused(f"a folder is deeper than {limits.PATH_DEPTH} or has more than {limits.TREE_FILES} files")
        self.known[oid] = depth, count


def _check_name(name: bytes) -> None:
    try:
        text = name.decode()
        check_path(text)
    except UnicodeDecodeError as error:
        raise Refused(f"the file name {name!r} is not valid UTF-8") from error
    except ApiError as error:
        raise Refused(f"the file name {text!r} cannot be kept: {error.message}") from error
