"""One bare git repository per repo: revisions, history, and writes that are durable before a branch moves.

The order is always: objects on disk and synced, then the ref, then the answer to the client. Writers of one
repository take turns; readers never wait.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from dulwich.file import FileLocked
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.pack import full_unpacked_object
from dulwich.refs import Ref
from dulwich.repo import Repo as DulwichRepo

from perdure.hub.http import ApiError, repo_not_found
from perdure.hub.paths import is_sha
from perdure.io.durable import fsync_folder, fsync_tree, make_folders

T = TypeVar("T")

MAIN: Final = "main"
_HEADS: Final = b"refs/heads/"
_TAGS: Final = b"refs/tags/"

# Up to here each object is a file of its own; above, one pack with one sync is faster than a sync for each.
_LOOSE: Final = 16

# Sizes and pointers of blobs by their id, which never change: listing a folder then reads none of its files.
_FACTS: Final = 200_000

Writable = tuple[ObjectID, Callable[[], ShaFile]]
"""An object to store: its id, and how to get it when its turn comes (so that not all are in memory at once)."""


def revision_not_found(revision: str) -> ApiError:
    """The answer to a branch, tag or commit that the repository does not have."""
    return ApiError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def written(obj: ShaFile) -> Writable:
    """An object at hand as one to store."""
    return obj.id, lambda: obj


class GitRepo:
    """An open repository. Make it through `GitRepos.open`; do not share it between threads."""

    def __init__(
        self, repo: DulwichRepo, folder: Path, lock: threading.RLock, facts: dict[ObjectID, tuple[int, Any]]
    ) -> None:
        self._repo = repo
        self.folder = folder
        self._lock = lock
        self.facts = facts
        self.store = repo.object_store
        repo.object_store.fsync_object_files = True

    # ── reading ──

    def branches(self) -> dict[str, ObjectID]:
        """Branch name → the commit it points to, sorted by name."""
        return self._refs(_HEADS)

    def tags(self) -> dict[str, ObjectID]:
        """Tag name → the commit it points to, through annotated tags."""
        return {name: self._peel(sha) for name, sha in self._refs(_TAGS).items()}

    def _refs(self, base: bytes) -> dict[str, ObjectID]:
        found = self._repo.refs.as_dict(Ref(base.rstrip(b"/")))
        return {name.decode("utf-8", "replace"): sha for name, sha in sorted(found.items())}

    def _peel(self, sha: ObjectID) -> ObjectID:
        obj = self.store[sha]
        while isinstance(obj, Tag):
            obj = self.store[obj.object[1]]
        return obj.id

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
                commit = self.store[self._peel(sha)]
                if isinstance(commit, Commit):
                    return commit
        if is_sha(name) and ObjectID(encoded) in self.store:
            commit = self.store[ObjectID(encoded)]
            if isinstance(commit, Commit):
                return commit
        raise revision_not_found(revision)

    def _read_ref(self, ref: bytes) -> ObjectID | None:
        try:
            return self._repo.refs[Ref(ref)]
        except (KeyError, ValueError, OSError):  # absent, not a name git allows, or a folder of refs
            return None

    def history(self, start: Commit) -> Iterator[Commit]:
        """`start` and what came before it, newest first."""
        return (entry.commit for entry in self._repo.get_walker(include=[start.id]))

    def tree(self, commit: Commit) -> Tree:
        """A commit's root folder."""
        tree = self.store[commit.tree]
        assert isinstance(tree, Tree)
        return tree

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
        ref = Ref(_HEADS + name.encode())
        moved = self._unlocking(lambda: self._repo.refs.set_if_equals(ref, old, new))
        self._sync_ref(ref)
        return moved

    def add_branch(self, name: str, target: ObjectID) -> bool:
        """False when there is one of that name, or one that it would be a folder of or a file in."""
        return self._add_ref(_HEADS, name, target)

    def add_tag(self, name: str, target: ObjectID, message: str, author: str) -> bool:
        """False when the name is taken, as with `add_branch`. With a message the tag is annotated."""
        if not message:
            return self._add_ref(_TAGS, name, target)
        tag = Tag()
        tag.name = name.encode()
        tag.object = (Commit, target)
        tag.tagger = f"{author} <{author}@hub.invalid>".encode()
        tag.tag_time = int(time.time())
        tag.tag_timezone = 0
        tag.message = message.encode()
        with self.writing():
            self._write([written(tag)])
            return self._add_ref(_TAGS, name, tag.id)

    def _add_ref(self, base: bytes, name: str, target: ObjectID) -> bool:
        ref = Ref(base + name.encode())
        with self.writing():
            for taken in self._refs(base):  # refs are files: "a" and "a/b" cannot both exist
                if taken == name or taken.startswith(name + "/") or name.startswith(taken + "/"):
                    return False
            added = self._unlocking(lambda: self._repo.refs.add_if_new(ref, target))
            self._sync_ref(ref)
            return added

    def remove_branch(self, name: str) -> bool:
        """False when there is no such branch. Its commits stay, and can still be read by their ids."""
        return self._remove_ref(_HEADS, name)

    def remove_tag(self, name: str) -> bool:
        """False when there is no such tag."""
        return self._remove_ref(_TAGS, name)

    def _remove_ref(self, base: bytes, name: str) -> bool:
        ref = Ref(base + name.encode())
        with self.writing():
            current = self._read_ref(ref)
            if current is None:
                return False
            removed = self._unlocking(lambda: self._repo.refs.remove_if_equals(ref, current))
            self._sync_ref(ref)
            return removed

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

    def _sync_ref(self, ref: bytes) -> None:
        folder = (self.folder / os.fsdecode(ref)).parent
        while folder != self.folder:
            if folder.is_dir():
                fsync_folder(folder)
            folder = folder.parent


class GitRepos:
    """The folder of all repositories, each named by its row's id."""

    def __init__(self, folder: Path, staging: Path) -> None:
        make_folders(folder)
        self._folder = folder
        self._staging = staging
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()
        self._facts: dict[ObjectID, tuple[int, Any]] = {}

    @contextmanager
    def open(self, repo_id: str) -> Iterator[GitRepo]:
        """Open a repository for the length of the block; 404 RepoNotFound when it was deleted meanwhile."""
        folder = self._folder / f"{repo_id}.git"
        lock = self._lock(repo_id)
        if len(self._facts) > _FACTS:
            self._facts = {}
        if not folder.is_dir():  # deleted a moment ago
            raise repo_not_found()
        with DulwichRepo(str(folder)) as repo:
            yield GitRepo(repo, folder, lock, self._facts)

    def create(self, repo_id: str, files: Mapping[str, bytes], author: str) -> None:
        """Make a repository whose branch `main` has one commit with `files` at its root."""
        draft = self._staging / f"{repo_id}.git"
        draft.mkdir()
        with DulwichRepo.init_bare(str(draft), default_branch=MAIN.encode()) as repo:
            git = GitRepo(repo, draft, threading.RLock(), {})
            blobs = {name: Blob.from_string(data) for name, data in files.items()}
            tree = Tree()
            for name, blob in blobs.items():
                tree.add(name.encode(), 0o100644, blob.id)
            objects = [written(blob) for blob in blobs.values()] + [written(tree)]
            git.add_branch(MAIN, git.commit(objects, tree.id, [], author, "initial commit"))
        fsync_tree(draft)
        draft.rename(self._folder / draft.name)
        fsync_folder(self._folder)

    def delete(self, repo_id: str) -> None:
        """Remove a repository and its history, after the write that is under way in it."""
        with self._lock(repo_id):  # a commit under way ends first; one that waits finds no branch
            grave = self._staging / f"{repo_id}.deleted"
            (self._folder / f"{repo_id}.git").rename(grave)  # at once: nobody opens half of it
            shutil.rmtree(grave, ignore_errors=True)

    def _lock(self, repo_id: str) -> threading.RLock:
        with self._guard:
            return self._locks.setdefault(repo_id, threading.RLock())
