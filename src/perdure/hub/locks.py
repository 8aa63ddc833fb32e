"""Locks on files that cannot be merged, as git-lfs asks for them; to keep to them is the client's part."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from perdure.hub.db import Database, Repo


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock on one path of a repository."""

    id: str
    path: str
    owner: str
    created: float


class Locks:
    """The table of locks. Safe to use from any thread."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def all(self, repo: Repo) -> list[Lock]:
        """Every lock of a repository, oldest first."""
        columns = "SELECT id, path, owner, created FROM locks"
        rows = self._db.rows(f"{columns} WHERE repo_id = ? ORDER BY created, id", repo.id)
        return [_lock(row) for row in rows]

    def add(self, repo: Repo, path: str, owner: str) -> Lock | None:
        """Lock a path; None when it is locked already."""
        lock = Lock(id=token_hex(12), path=path, owner=owner, created=time.time())
        try:
            with self._db.write() as db:
                values = (lock.id, repo.id, lock.path, lock.owner, lock.created)
                db.execute("INSERT INTO locks (id, repo_id, path, owner, created) VALUES (?, ?, ?, ?, ?)", values)
        except sqlite3.IntegrityError:
            return None
        return lock

    def remove(self, repo: Repo, lock: Lock) -> None:
        """Unlock a path."""
        with self._db.write() as db:
            db.execute("DELETE FROM locks WHERE repo_id = ? AND id = ?", (repo.id, lock.id))


def _lock(row: tuple[Any, ...]) -> Lock:
    identity, path, owner, created = row
    return Lock(id=identity, path=path, owner=owner, created=created)
