"""One bare git repository per repo: revisions, history, and writes that are durable before a branch moves.

The order is always: objects on disk and synced, then the ref, then the answer to the client. Writers of one
repository take turns; readers never wait.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from dulwich.file import FileLocked
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.pack import full_unpacked_object
from dulwich.refs import Ref
from dulwich.repo import Repo as DulwichRepo

from perdure.hub.http import ApiError
from perdure.hub.paths import is_sha
from perdure.hub.ref_files import clear_place, first_clash
from perdure.io.durable import fsync_folder

T = TypeVar("T")

MAIN: Final = "main"
_HEADS: Final = b"refs/heads/"
_TAGS: Final = b"refs/tags/"
_PULLS: Final = b"refs/pr/"

# Up to here each object is a file of its own; above, one pack with one sync is faster than a sync for each.
_LOOSE: Final = 16

Writable = tuple[ObjectID, Callable[[], ShaFile]]
"""An object to store: its id, and how to get it when its turn comes (so that not all are in memory at once)."""


Move = tuple[str, ObjectID | None, ObjectID | None]
"""A ref's full name, and what it points to before and after; None where it is not there."""


def revision_not_found(revision: str) -> ApiError:
    """The answer to a branch, tag or commit that the repository does not have."""
    return ApiError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def written(obj: ShaFile) -> Writable:
    """An object at hand as one to store."""
    return obj.id, lambda: obj


class GitRepo:
    """An open repository. Make it through `repos.GitRepos.open`; do not share it between threads."""

    def __init__(
        self, repo: DulwichRepo, folder: Path, lock: threading.RLock, facts: dict[ObjectID, tuple[int, Any]]
    ) -> None:
        self.repo = repo
        self.folder = folder
        self._lock = lock
        self.facts = facts
        self.folders: dict[ObjectID, Tree] = {}
        self.folder_entries = 0
        self.store = repo.object_store
        repo.object_store.fsync_object_files = True

    # ── reading ──

    def branches(self) -> dict[str, ObjectID]:
        """Branch name → the commit it points to, sorted by name."""
        return self._refs(_HEADS)

    def tags(self) -> dict[str, ObjectID]:
        """Tag name → the commit it points to, through annotated tags."""
        return {name: self.peel(sha) for name, sha in self._refs(_TAGS).items()}

    def _refs(self, base: bytes) -> dict[str, ObjectID]:
        found = self.repo.refs.as_dict(Ref(base.rstrip(b"/")))
        return {name.decode("utf-8", "replace"): sha for name, sha in sorted(found.items())}

    def pulls(self) -> dict[str, ObjectID]:
        """Number of a pull request → the commit it proposes."""
        return self._refs(_PULLS)

    def all_refs(self) -> list[tuple[str, ObjectID]]:
        """Every ref by its full name, sorted, with the object it points to."""
        found = self.repo.refs.as_dict()
        return [(name.decode("utf-8", "replace"), sha) for name, sha in sorted(found.items()) if name != b"HEAD"]

    def ref(self, name: str) -> ObjectID | None:
        """The object that a ref points to, by its full name; None when there is no such ref."""
        return self._read_ref(name.encode())

    def peel(self, sha: ObjectID) -> ObjectID:
        """The object an annotated tag is for, or the object itself."""
        return self._peeled(sha).id

    def _peeled(self, sha: ObjectID) -> ShaFile:
        obj = self.store[sha]
        while isinstance(obj, Tag):
            obj = self.store[obj.object[1]]
        return obj

    def resolve(self, revision: str) -> Commit:
        """The commit a branch, tag, full ref or commit id names.

        Raises:
            ApiError: 404 RevisionNotFound.
        """
        name = MAIN if revision == "HEAD" else revision
        try:
            encoded = name.encode()
        except UnicodeEncodeError:
            raise revision_not_found(ascii(revision)) from None
        candidates = [encoded] if encoded.startswith(b"refs/") else [_HEADS + encoded, _TAGS + encoded]
        for ref in candidates:
            sha = self._read_ref(ref)
            if sha is not None:
                commit = self._peeled(sha)
                if isinstance(commit, Commit):
                    return commit
        if is_sha(name) and ObjectID(encoded) in self.store:
            commit = self.store[ObjectID(encoded)]
            if isinstance(commit, Commit):
                return commit
        raise revision_not_found(revision)

    def _read_ref(self, ref: bytes) -> ObjectID | None:
        try:
            return self.repo.refs[Ref(ref)]
        except (KeyError, ValueError, OSError):  # absent, not a name git allows, or a folder of refs
            return None

    def history(self, start: Commit) -> Iterator[Commit]:
        """`start` and what came before it, newest first."""
        return (entry.commit for entry in self.repo.get_walker(include=[start.id]))

    def blob(self, sha: ObjectID) -> bytes:
        """The content of a file that is kept in git."""
        blob = self.store[sha]
        assert isinstance(blob, Blob)
        return blob.data

    # ── writing ──

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the repository for one read-modify-write."""
        with self._lock:
            yield

    def commit(
        self, objects: Sequence[Writable], tree: ObjectID, parents: Sequence[ObjectID], author: str, message: str
    ) -> ObjectID:
        """Store `objects` and a commit over them, durably. No ref moves."""
        commit = Commit()
        commit.tree = tree
        commit.parents = list(parents)
        commit.author = commit.committer = f"{author} <{author}@hub.invalid>".encode()
        commit.author_time = commit.commit_time = int(time.time())
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding = b"UTF-8"
        commit.message = message.encode()
        self._write([*objects, written(commit)])
        return commit.id

    def move_branch(self, name: str, old: ObjectID, new: ObjectID) -> bool:
        """Point a branch from `old` to `new`; False when it is somewhere else by now."""
        return self.move_ref(f"refs/heads/{name}", old, new)

    def move_ref(self, name: str, old: ObjectID | None, new: ObjectID | None) -> bool:
        """Point a ref, by its full name, from `old` to `new`; None where there was none, or is to be none.

        False when it is somewhere else by now, or its name is a folder of another's.
        """
        ref = Ref(name.encode())
        with self.writing():
            if old is None and new is not None:
                if not self._free(ref):
                    return False
                clear_place(self.folder / os.fsdecode(ref))
                return self._durably(ref, lambda: self.repo.refs.add_if_new(ref, new))
            if old is not None and new is None:
                return self._durably(ref, lambda: self.repo.refs.remove_if_equals(ref, old))
            assert old is not None and new is not None
            return self._durably(ref, lambda: self.repo.refs.set_if_equals(ref, old, new))

    def set_ref(self, name: str, target: ObjectID) -> None:
        """Point a ref to `target`, whether or not it was there."""
        ref = Ref(name.encode())
        with self.writing():
            self._durably(ref, lambda: self.repo.refs.set_if_equals(ref, None, target))

    def move_refs(self, moves: Sequence[Move]) -> str | None:
        """Make all these moves, or none of them; the name of a ref that could not be moved."""
        moves = sorted(moves, key=lambda move: move[2] is not None)  # what goes makes room for what comes
        with self.writing():
            gone = {Ref(name.encode()) for name, _, new in moves if new is None}
            new_names = [Ref(name.encode()) for name, old, _ in moves if old is None]
            clash = first_clash(new_names, self.repo.refs.allkeys() - gone)
            if clash is not None:
                return clash.decode()
            done: list[Move] = []
            try:
                for move in moves:
                    if not self.move_ref(*move):
                        return move[0]
                    done.append(move)
                done.clear()
            finally:
                for name, old, new in reversed(done):
                    self.move_ref(name, new, old)
        return None

    def _free(self, ref: Ref) -> bool:
        return first_clash([ref], self.repo.refs.allkeys()) is None

    def _durably(self, ref: Ref, change: Callable[[], bool]) -> bool:
        changed = self._unlocking(change)
        self._sync_ref(ref)
        return changed

    def add_branch(self, name: str, target: ObjectID) -> bool:
        """False when there is one of that name, or one that it would be a folder of or a file in."""
        return self.move_ref(f"refs/heads/{name}", None, target)

    def add_tag(self, name: str, target: ObjectID, message: str, author: str) -> bool:
        """False when the name is taken, as with `add_branch`. With a message the tag is annotated."""
        if not message:
            return self.move_ref(f"refs/tags/{name}", None, target)
        tag = Tag()
        tag.name = name.encode()
        tag.object = (Commit, target)
        tag.tagger = f"{author} <{author}@hub.invalid>".encode()
        tag.tag_time = int(time.time())
        tag.tag_timezone = 0
        tag.message = message.encode()
        with self.writing():
            self._write([written(tag)])
            return self.move_ref(f"refs/tags/{name}", None, tag.id)

    def remove_branch(self, name: str) -> bool:
        """False when there is no such branch. Its commits stay, and can still be read by their ids."""
        return self._remove_ref(f"refs/heads/{name}")

    def remove_tag(self, name: str) -> bool:
        """False when there is no such tag."""
        return self._remove_ref(f"refs/tags/{name}")

    def _remove_ref(self, name: str) -> bool:
        with self.writing():
            current = self.ref(name)
            return current is not None and self.move_ref(name, current, None)

    def pack(self, oids: Sequence[ObjectID]) -> Path:
        """Write stored objects, one at least, to one new pack, durably; its path without a suffix."""
        unpacked = (full_unpacked_object(self.store[oid]) for oid in oids)
        made = self.store.add_pack_data(len(oids), unpacked)
        if made is None:
            raise ValueError("there is nothing to pack")
        fsync_folder(self.folder / "objects" / "pack")
        return Path(made.data.path).with_suffix("")

    def _write(self, objects: Sequence[Writable]) -> None:
        if len(objects) > _LOOSE:
            unpacked = (full_unpacked_object(load()) for _, load in objects)
            self._unlocking(lambda: self.store.add_pack_data(len(objects), unpacked))
            fsync_folder(self.folder / "objects" / "pack")
            return
        for _, load in objects:
            obj = load()
            self._unlocking(lambda obj=obj: self.store.add_object(obj))  # type: ignore[misc]
        for prefix in {sha[:2] for sha, _ in objects}:
            fsync_folder(self.folder / "objects" / os.fsdecode(prefix))
        fsync_folder(self.folder / "objects")

    def _unlocking(self, action: Callable[[], T]) -> T:
        """Do `action`; a lock file in its way is a killed server's, as writers here take turns in one process."""
        try:
            return action()
        except FileLocked as error:
            Path(os.fsdecode(error.lockfilename)).unlink(missing_ok=True)
            return action()

    def _sync_ref(self, ref: Ref) -> None:
        folder = (self.folder / os.fsdecode(ref)).parent
        while folder != self.folder:
            if folder.is_dir():
                fsync_folder(folder)
            folder = folder.parent
