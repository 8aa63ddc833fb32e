"""Repositories, what each of them holds, and the settings of the store, in SQLite; `accounts` adds its users.

Bytes never live here: files are in git and in the blob store. A row is durable when the call that wrote it returns.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from perdure.errors import InvalidInput, NotFound, UnsupportedFormat
from perdure.hub.schema import MIGRATIONS
from perdure.hub.sqlite_file import copied_to_memory, open_to_read, open_to_write

DATABASE: Final = "hub.sqlite3"
"""The first file in a store: a folder without it is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repo:
    """A repository's row; `id` also names its folder, so that moving or renaming it touches no file.

    `gated` says whose downloads are refused: nobody's (empty), those without a token (`auto`), or those of all but
    the namespace's own people (`manual`).
    """

    id: str
    kind: str
    namespace: str
    name: str
    private: bool
    created: float
    gated: str = ""

    @property
    def full_name(self) -> str:
        """The id people and clients use: `namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Database:
    """The store's database. Safe to use from any thread.

    Args:
        path: The file; made with its schema when it is not there.
        read_only: Change nothing, and no file beside it. Of an older store a copy in memory is brought up to date.

    Raises:
        UnsupportedFormat: A newer perdure wrote it.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._lock = threading.RLock()
        self._db = open_to_read(path) if read_only else open_to_write(path)
        version = self.rows("PRAGMA user_version")[0][0]
        if version > len(MIGRATIONS):
            self.close()
            raise UnsupportedFormat(
                f"{path.parent} was written by a newer perdure (store version {version}); nothing was changed.",
                hint="Upgrade with: pip install -U 'perdure[hub]'",
            )
        if version < len(MIGRATIONS):
            if read_only:
                self._db = copied_to_memory(self._db)
            self._migrate()
        if read_only:
            self._db.execute("PRAGMA query_only = ON")

    def _migrate(self) -> None:
        with self.write() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]  # another process may have been faster
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
        """A transaction: what is executed in the block is durable when it ends, and undone when it raises."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that a query finds."""
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    # ── settings of the store ──

    def secret(self) -> bytes:
        """The key that signs upload links; it outlives a restart so that running uploads do too."""
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (secrets.token_bytes(32),))
            return bytes(db.execute("SELECT value FROM meta WHERE key = 'secret'").fetchone()[0])

    def epoch(self, user: int) -> str:
        """The part of a user's CAS address by which their Xet clients remember what they sent.

        Each user's is different: a client with the tokens of two would take what one has sent for what both may use.
        """
        keys = ("epoch", f"epoch of {user}")
        with self.write() as db:
            db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", [(key, secrets.token_hex(8)) for key in keys])
        parts = self.rows("SELECT value FROM meta WHERE key IN (?, ?) ORDER BY key DESC", *keys)
        return "-".join(str(value) for (value,) in parts)

    def renew_epoch(self) -> None:
        """Make all clients forget what they sent."""
        with self.write() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (secrets.token_hex(8),))

    def renew_epoch_of(self, user: int, current: str) -> None:
        """Make a user's clients forget what they sent; nothing happens when `current` was replaced already."""
        if self.epoch(user) == current:
            with self.write() as db:
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"epoch of {user}", secrets.token_hex(8)))

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
            kind, namespace, name,
        )  # fmt: skip
        return _repo(rows[0]) if rows else None

    def repos(self, kind: str = "") -> list[Repo]:
        """All repositories, newest first; of one kind, where one is named."""
        return [_repo(row) for row in self.rows(f"{_REPO} WHERE ? IN ('', kind) ORDER BY created DESC, id", kind)]

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
                    "INSERT INTO repos VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (repo.id, repo.kind, repo.namespace, repo.name, repo.private, repo.created, repo.gated),
                )
        except sqlite3.IntegrityError:
            return False
        return True

    def count_repos(self, namespace: str) -> int:
        """How many repositories are in a namespace."""
        (row,) = self.rows("SELECT count(*) FROM repos WHERE namespace = ?", namespace)
        assert isinstance(row[0], int)
        return row[0]

    def set_access(self, repo: Repo, *, private: bool, gated: str) -> None:
        """Change who may see a repository and who may download from it."""
        with self.write() as db:
            db.execute("UPDATE repos SET private = ?, gated = ? WHERE id = ?", (private, gated, repo.id))

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

    def hold(self, repo: Repo, *oids: str) -> None:
        """Record that `repo` was given the bytes of these files."""
        with self.write() as db:
            db.executemany("INSERT OR IGNORE INTO holdings VALUES (?, ?)", [(oid, repo.id) for oid in oids])

    def holds(self, repo: Repo, oid: str) -> bool:
        """Whether `repo` was given the bytes of `oid`."""
        return bool(self.rows("SELECT 1 FROM holdings WHERE oid = ? AND repo_id = ?", oid, repo.id))

    def release(self, oids: Iterable[str]) -> None:
        """Forget who was given the bytes of files that are to go, and what they were made of."""
        gone = [(oid,) for oid in oids]
        with self.write() as db:
            for table in ("holdings", "xorb_uses"):
                db.executemany(f"DELETE FROM {table} WHERE oid = ?", gone)

    def problems(self) -> list[str]:
        """What is wrong with the file itself, and rows that refer to rows which are not there."""
        found = [str(row[0]) for row in self.rows("PRAGMA integrity_check") if row[0] != "ok"]
        broken = self.rows("PRAGMA foreign_key_check")
        return found + [
            f"a row of {table} refers to one of {parent} that is not there" for table, _, parent, _ in broken
        ]

    def users_of_xorb(self, xorb: str) -> Iterator[tuple[bytes, Repo]]:
        """The repositories that hold a file made of a xorb, each with the chunks that the file uses (`dedup`)."""
        for chunks, *repo in self.rows(_XORB_USERS, xorb):
            yield chunks, _repo(tuple(repo))

    def holders(self, oid: str) -> list[Repo]:
        """The repositories that were given the bytes of `oid`."""
        return [
            _repo(row) for row in self.rows(f"{_REPO} WHERE id IN (SELECT repo_id FROM holdings WHERE oid = ?)", oid)
        ]


def open_database(folder: Path, *, read_only: bool = False) -> Database:
    """The database of an existing store, whether a server runs on it or not; close it after use.

    Raises:
        NotFound: The folder is no hub's.
        InvalidInput: It cannot be read or written.
    """
    if not (folder / DATABASE).is_file():
        raise NotFound(
            f"{folder} is no hub's folder.", hint=f"Name it with --dir; perdure serve --dir {folder} makes a new one."
        )
    try:
        return Database(folder / DATABASE, read_only=read_only)
    except (OSError, sqlite3.Error) as error:
        raise InvalidInput(f"The hub's database in {folder} cannot be opened: {error}.") from error


_REPO: Final = "SELECT id, kind, namespace, name, private, created, gated FROM repos"

_XORB_USERS: Final = (
    "SELECT chunks, repos.id, kind, namespace, name, private, created, gated FROM xorb_uses "
    "JOIN holdings USING (oid) JOIN repos ON repos.id = repo_id WHERE xorb = ?"
)


def _repo(row: tuple[object, ...]) -> Repo:
    identity, kind, namespace, name, private, created, gated = row
    assert isinstance(created, float)
    return Repo(
        id=str(identity), kind=str(kind), namespace=str(namespace), name=str(name), private=bool(private),
        created=created, gated=str(gated),
    )  # fmt: skip
