"""The folder of all git repositories: opening, making and removing them, and whose turn it is to write."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from dulwich.objects import Blob, ObjectID, Tree
from dulwich.refs import DiskRefsContainer, Ref
from dulwich.repo import Repo as DulwichRepo

from perdure.hub.git import MAIN, GitRepo, written
from perdure.hub.http import repo_not_found
from perdure.io.durable import fsync_folder, fsync_tree

# Sizes and pointers of blobs by their id, which never change: listing a folder then reads none of its files.
_FACTS: Final = 200_000


class GitRepos:
    """The folder of all repositories, each named by its row's id."""

    def __init__(self, folder: Path, staging: Path) -> None:
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

    def newest(self, repo_id: str) -> ObjectID | None:
        """The newest commit of `main`, without opening the repository: for lists, which ask it of thousands."""
        refs = DiskRefsContainer(str(self._folder / f"{repo_id}.git"))
        try:
            return refs[Ref(f"refs/heads/{MAIN}".encode())]
        except (KeyError, OSError):
            return None

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

    @contextmanager
    def writing(self, repo_id: str) -> Iterator[None]:
        """Hold a repository as `GitRepo.writing` does, without opening it."""
        with self._lock(repo_id):
            yield

    def _lock(self, repo_id: str) -> threading.RLock:
        with self._guard:
            return self._locks.setdefault(repo_id, threading.RLock())
