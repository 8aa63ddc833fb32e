"""Users, tokens, repositories and what each repository holds, in SQLite.

Bytes never live here: files are in git and in the blob store. A row is durable when the call that wrote it returns.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from perdure.errors import UnsupportedFormat
from perdure.hub.schema import MIGRATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user's row."""

    id: int
    name: str
    admin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Repo:
    """A repository's row; `id` also names its folder, so that moving or renaming it touches no file."""

    id: str
    kind: str
    namespace: str
    name: str
    private: bool
    created: float

    @property
    def full_name(self) -> str:
        """The id people and clients use: `namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Database:
    """The store's database. Safe to use from any thread.

    Args:
        path: The file; made with its schema when it is not there.

    Raises:
        UnsupportedFormat: A newer perdure wrote it.
    """

    def __init__(self, path: Path) -> None:
        # it holds the key that signs upload links: for the owner's eyes, whatever the umask
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self.write() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise UnsupportedFormat(
                    f"{path.parent} was written by a newer perdure (store version {version}); nothing was changed.",
                    hint="Upgrade with: pip install -U 'perdure[hub]'",
                )
            for migration in MIGRATIONS[version:]:
                for statement in migration.split(";"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def close(self) -> None:
        """Close the file; no call may follow."""
        with self._lock:
            self._db.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: durable when the block ends, undone when it raises."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    # ── settings of the store ──

    def secret(self) -> bytes:
        """The key that signs upload links; it outlives a restart so that running uploads do too."""
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (secrets.token_bytes(32),))
            return bytes(db.execute("SELECT value FROM meta WHERE key = 'secret'").fetchone()[0])

    def epoch(self) -> str:
        """The part of the CAS address by which Xet clients remember what they sent."""
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('epoch', ?)", (secrets.token_hex(8),))
            return str(db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])

    def renew_epoch(self, current: str) -> None:
        """Make clients forget what they sent; nothing happens when `current` was replaced already."""
        with self.write() as db:
            db.execute("UPDATE meta SET value = ? WHERE key = 'epoch' AND value = ?", (secrets.token_hex(8), current))

    # ── users and tokens ──

    def first_admin(self) -> User | None:
        """The administrator who was made first, or None in a new store."""
        rows = self.rows("SELECT id, name, admin FROM users WHERE admin ORDER BY id LIMIT 1")
        return _user(rows[0]) if rows else None

    def user(self, name: str) -> User | None:
        """The user of that name, whatever the case of its letters."""
        rows = self.rows("SELECT id, name, admin FROM users WHERE name = ?", name)
        return _user(rows[0]) if rows else None

    def add_user(self, name: str, *, admin: bool) -> User:
        """Enter a user; `sqlite3.IntegrityError` when the name is taken."""
        with self.write() as db:
            db.execute("INSERT INTO users (name, admin, created) VALUES (?, ?, ?)", (name, admin, time.time()))
        user = self.user(name)
        assert user is not None
        return user

    def add_token(self, user: User, digest: bytes, *, role: str, label: str) -> None:
        """Let `user` in with the token of that digest; one entered before gets the new role, label and user."""
        with self.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?)", (digest, user.id, role, label, time.time())
            )

    def token(self, digest: bytes) -> tuple[bytes, str, str, User] | None:
        """The stored digest, role, label and user of a token."""
        rows = self.rows(
            "SELECT digest, role, label, users.id, users.name, users.admin"
            " FROM tokens JOIN users ON users.id = user_id WHERE digest = ?",
            digest,
        )
        if not rows:
            return None
        stored, role, label, *user = rows[0]
        assert isinstance(stored, bytes)
        return stored, str(role), str(label), _user(tuple(user))

    # ── repositories ──

    def repo(self, kind: str, namespace: str, name: str) -> Repo | None:
        """The repository of that name, whatever the case of its letters."""
        rows = self.rows(f"{_REPO} WHERE kind = ? AND namespace = ? AND name = ?", kind, namespace, name)
        return _repo(rows[0]) if rows else None

    def repo_by_id(self, repo_id: str) -> Repo | None:
        """The repository with that id, or None when there is none (any more)."""
        rows = self.rows(f"{_REPO} WHERE id = ?", repo_id)
        return _repo(rows[0]) if rows else None

    def moved(self, kind: str, namespace: str, name: str) -> Repo | None:
        """The repository that had this name before it was moved."""
        rows = self.rows(
            f"{_REPO} WHERE id = (SELECT repo_id FROM former_names WHERE kind = ? AND namespace = ? AND name = ?)",
            kind,
            namespace,
            name,
        )
        return _repo(rows[0]) if rows else None

    def repos(self, kind: str) -> list[Repo]:
        """All repositories of a kind, newest first."""
        return [_repo(row) for row in self.rows(f"{_REPO} WHERE kind = ? ORDER BY created DESC, id", kind)]

    def add_repo(self, repo: Repo) -> bool:
        """Enter a repository; False when the name is taken."""
        try:
            with self.write() as db:
                # a new repository takes the name back from one that has moved away
                db.execute(
                    "DELETE FROM former_names WHERE kind = ? AND namespace = ? AND name = ?",
                    (repo.kind, repo.namespace, repo.name),
                )
                db.execute(
                    "INSERT INTO repos VALUES (?, ?, ?, ?, ?, ?)",
                    (repo.id, repo.kind, repo.namespace, repo.name, repo.private, repo.created),
                )
        except sqlite3.IntegrityError:
            return False
        return True

    def set_private(self, repo: Repo, private: bool) -> None:
        """Change who may see a repository."""
        with self.write() as db:
            db.execute("UPDATE repos SET private = ? WHERE id = ?", (private, repo.id))

    def move_repo(self, repo: Repo, namespace: str, name: str) -> bool:
        """Give a repository another name, and keep the old one as a way to it; False when it is taken."""
        try:
            with self.write() as db:
                db.execute("UPDATE repos SET namespace = ?, name = ? WHERE id = ?", (namespace, name, repo.id))
                new = (repo.kind, namespace, name)
                db.execute("DELETE FROM former_names WHERE kind = ? AND namespace = ? AND name = ?", new)
                if (namespace.lower(), name.lower()) != (repo.namespace.lower(), repo.name.lower()):
                    old = (repo.kind, repo.namespace, repo.name, repo.id)
                    db.execute("INSERT OR REPLACE INTO former_names VALUES (?, ?, ?, ?)", old)
        except sqlite3.IntegrityError:
            return False
        return True

    def delete_repo(self, repo: Repo) -> None:
        """Remove a repository's row, its former names and what it holds; no file is touched."""
        with self.write() as db:
            db.execute("DELETE FROM repos WHERE id = ?", (repo.id,))

    # ── which repository holds which large file ──

    def hold(self, repo: Repo, oid: str) -> None:
        """Record that `repo` was given the bytes of `oid`."""
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO holdings VALUES (?, ?)", (oid, repo.id))

    def holders(self, oid: str) -> list[Repo]:
        """The repositories that were given the bytes of `oid`."""
        return [
            _repo(row) for row in self.rows(f"{_REPO} WHERE id IN (SELECT repo_id FROM holdings WHERE oid = ?)", oid)
        ]


_REPO: Final = "SELECT id, kind, namespace, name, private, created FROM repos"


def _user(row: tuple[object, ...]) -> User:
    identity, name, admin = row
    assert isinstance(identity, int)
    return User(id=identity, name=str(name), admin=bool(admin))


def _repo(row: tuple[object, ...]) -> Repo:
    identity, kind, namespace, name, private, created = row
    assert isinstance(created, float)
    return Repo(
        id=str(identity),
        kind=str(kind),
        namespace=str(namespace),
        name=str(name),
        private=bool(private),
        created=created,
    )
