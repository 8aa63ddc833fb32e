"""The database's tables, as the steps that make them: a store of an earlier version takes those it lacks."""

from __future__ import annotations

from typing import Final

_FIRST: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE users (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, admin INTEGER NOT NULL, created REAL NOT NULL
);
CREATE TABLE tokens (
    digest BLOB PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE, role TEXT NOT NULL,
    label TEXT NOT NULL, created REAL NOT NULL
);
CREATE TABLE repos (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL COLLATE NOCASE,
    name TEXT NOT NULL COLLATE NOCASE, private INTEGER NOT NULL, created REAL NOT NULL,
    UNIQUE (kind, namespace, name)
);
CREATE TABLE former_names (
    kind TEXT NOT NULL, namespace TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE,
    repo_id TEXT NOT NULL REFERENCES repos ON DELETE CASCADE,
    PRIMARY KEY (kind, namespace, name)
);
CREATE TABLE holdings (
    oid TEXT NOT NULL, repo_id TEXT NOT NULL REFERENCES repos ON DELETE CASCADE, PRIMARY KEY (oid, repo_id)
) WITHOUT ROWID;
"""

_COLLABORATION: Final = """
CREATE TABLE discussions (
    repo_id TEXT NOT NULL REFERENCES repos ON DELETE CASCADE, num INTEGER NOT NULL, title TEXT NOT NULL,
    author TEXT NOT NULL, created REAL NOT NULL, status TEXT NOT NULL, base TEXT, merge_commit TEXT,
    PRIMARY KEY (repo_id, num)
);
CREATE TABLE discussion_events (
    id TEXT PRIMARY KEY, repo_id TEXT NOT NULL, num INTEGER NOT NULL, type TEXT NOT NULL, author TEXT NOT NULL,
    created REAL NOT NULL, data TEXT NOT NULL,
    FOREIGN KEY (repo_id, num) REFERENCES discussions ON DELETE CASCADE
);
CREATE INDEX discussion_events_by_num ON discussion_events (repo_id, num);
CREATE TABLE locks (
    id TEXT PRIMARY KEY, repo_id TEXT NOT NULL REFERENCES repos ON DELETE CASCADE, path TEXT NOT NULL,
    owner TEXT NOT NULL, created REAL NOT NULL, UNIQUE (repo_id, path)
);
CREATE TABLE xorb_uses (xorb TEXT NOT NULL, oid TEXT NOT NULL, PRIMARY KEY (xorb, oid)) WITHOUT ROWID;
CREATE TABLE chunks (chunk TEXT NOT NULL, xorb TEXT NOT NULL, PRIMARY KEY (chunk, xorb)) WITHOUT ROWID;
"""

# An administrator's tokens could do everything before there was a role that says so; they still can.
_ACCOUNTS: Final = """
ALTER TABLE tokens ADD COLUMN expires REAL;
UPDATE tokens SET role = 'admin' WHERE role = 'write' AND user_id IN (SELECT id FROM users WHERE admin);
ALTER TABLE repos ADD COLUMN gated TEXT NOT NULL DEFAULT '';
CREATE TABLE orgs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, created REAL NOT NULL);
CREATE TABLE members (
    org_id INTEGER NOT NULL REFERENCES orgs ON DELETE CASCADE,
    user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE, role TEXT NOT NULL, PRIMARY KEY (org_id, user_id)
) WITHOUT ROWID;
"""

_CHUNK_LISTS: Final = """
CREATE TABLE xorbs (xorb TEXT PRIMARY KEY, chunks BLOB NOT NULL) WITHOUT ROWID;
"""

# Which chunks a file uses, and who sent a xorb, say who may build on it. Of what came before, nobody knows: the address
# is renewed so that clients, which remember what they sent to it, send it again.
_XORB_SENDERS: Final = """
ALTER TABLE xorb_uses ADD COLUMN chunks BLOB NOT NULL DEFAULT x'';
CREATE TABLE xorb_senders (
    xorb TEXT NOT NULL, user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE, PRIMARY KEY (xorb, user_id)
) WITHOUT ROWID;
DELETE FROM meta WHERE key = 'epoch';
"""

MIGRATIONS: Final = (_FIRST, _COLLABORATION, _ACCOUNTS, _CHUNK_LISTS, _XORB_SENDERS)
"""Each takes the store from the version of its index to the next. Never edited once released, only added to."""
