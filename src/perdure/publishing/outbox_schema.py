"""The outbox's SQLite file: what is in it, and one transaction on it at a time.

A connection lives for one transaction: any thread and any process may change the outbox, and none of them carries an
open database over a fork.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.errors import Corrupt, PerdureError, SaveFailed, UnsupportedFormat
from perdure.publishing.outbox_pin import Written

DATABASE = "outbox.db"
_BUSY_SECONDS = 30.0
_VERSION = 1
_TABLE = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    branch TEXT NOT NULL,           -- endpoint, repository's full name and revision; '' until the full name is known
    endpoint TEXT NOT NULL,
    state TEXT NOT NULL,
    step INTEGER,                   -- of a checkpoint; NULL of a finished model
    ask TEXT NOT NULL,              -- JSON
    created REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try REAL,
    error TEXT,
    hint TEXT NOT NULL DEFAULT '',
    base TEXT,                      -- the commit that the first try was made for
    guarded INTEGER NOT NULL,       -- whether the branch must be where this outbox left it
    receipt TEXT,                   -- JSON, once the commit is made
    pushed REAL                     -- grows with each push of any job; no clock, which may go back
)
"""
_INDEX = "CREATE INDEX jobs_of_a_branch ON jobs (branch, seq)"
_BRANCHES = """
CREATE TABLE branches (
    endpoint TEXT NOT NULL,
    repo TEXT NOT NULL,             -- as it was named
    revision TEXT NOT NULL,
    branch TEXT,                    -- as in jobs, once the Hub was asked
    head TEXT,                      -- where it was then; '' for nowhere
    UNIQUE (endpoint, repo, revision)
)
"""


@contextmanager
def transaction(
    folder: Path, *, write: bool, fill: Callable[[sqlite3.Connection], object]
) -> Iterator[sqlite3.Connection]:
    """The outbox's database, all of whose changes in the block are durable after it, or none is made.

    Args:
        fill: Called where the file is new, or empty, within the transaction that makes its table.

    Raises:
        SaveFailed: The disk refuses.
        Corrupt: The database is damaged.
        UnsupportedFormat: It is one of a newer perdure.
    """
    path = folder / DATABASE
    try:
        db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            if _version(db, path) == 0:
                if not write:  # somebody is about to make it, or was
                    db.execute("ROLLBACK")
                    db.execute("BEGIN IMMEDIATE")
                if _version(db, path) == 0:
                    db.execute(_TABLE)
                    db.execute(_INDEX)
                    db.execute(_BRANCHES)
                    db.execute(f"PRAGMA user_version = {_VERSION}")
                    fill(db)
            yield db
            db.execute("COMMIT")
        finally:
            db.close()  # what was not committed is undone
    except PerdureError:
        raise
    except sqlite3.OperationalError as error:
        raise SaveFailed(
            f"The outbox {path} could not be used: {error}. Nothing was changed.",
            hint="Free some space, or give yourself write permission there; then do it again.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise Corrupt(
            f"The outbox {path} is damaged: {error}. What is still to be pushed lies beside it.",
            path=path,
            hint=f"Delete {path.name}: what waits is then queued again.",
        ) from error


def insert(db: sqlite3.Connection, written: Written) -> None:
    """Queue a job."""
    ask = written.ask
    target = ask.request.target
    branch = branch_of(target.endpoint, target.repo, target.revision) if "/" in target.repo else ""
    db.execute(
        "INSERT INTO jobs (id, branch, endpoint, state, step, ask, created, guarded) "
        "VALUES (?, ?, ?, 'queued', ?, ?, ?, ?)",
        (written.job, branch, target.endpoint, ask.step, ask.encode(), written.created, written.guarded),
    )


def branch_of(endpoint: str, name: str, revision: str) -> str:
    """One name for a branch of a repository, whose full name this is."""
    return " ".join((endpoint, name, revision))


def _version(db: sqlite3.Connection, path: Path) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise UnsupportedFormat(
            f"A newer perdure wrote {path} (version {version}); nothing was changed.",
            hint="Upgrade with: pip install --upgrade perdure",
        )
    return int(version)
