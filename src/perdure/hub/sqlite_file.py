"""Opening the database's file: to write durably, or to leave every byte beside it as it is."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path


def open_to_write(path: Path) -> sqlite3.Connection:
    """A connection to a database file, made when it is not there; what is committed on it is durable."""
    # it holds the key that signs upload links: for the owner's eyes, whatever the umask
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    db = _connect(path.absolute().as_uri())
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that leaves the file, and the folder it is in, as they are."""
    if path.with_name(f"{path.name}-wal").exists():
        mode = "mode=ro"  # a server runs, or was killed: what it wrote last is for the next one to put in its place
    elif os.access(path.parent, os.W_OK):
        mode = "mode=rw"  # the files that readers need beside it go again when it is closed, which a mode=ro leaves
    else:
        mode = "immutable=1"
    return _connect(f"{path.absolute().as_uri()}?{mode}")


def copied_to_memory(db: sqlite3.Connection) -> sqlite3.Connection:
    """A copy of a database, to change without changing the file; the connection to that is closed."""
    copy = _connect("file::memory:")
    db.backup(copy)
    db.close()
    return copy


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
