"""Discussions and pull requests as rows: what they are called, who said what, and what became of them.

What a pull request proposes is in git, under `refs/pr/N`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

from perdure.hub.db import Database, Repo

OPEN: Final = frozenset({"open", "draft"})
"""What a discussion is called while it is neither closed nor merged."""

_COLUMNS: Final = "num, title, author, created, status, base, merge_commit"
_EVENT: Final = "id, type, author, created, data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discussion:
    """A discussion; a pull request when it has a `base`, the branch it is to go into."""

    num: int
    title: str
    author: str
    created: float
    status: str
    base: str | None
    merge_commit: str | None

    @property
    def is_pull(self) -> bool:
        """Whether it proposes commits."""
        return self.base is not None

    @property
    def ref(self) -> str:
        """The ref of what a pull request proposes."""
        return f"refs/pr/{self.num}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something said or done in a discussion, as clients read it: `type` says what `data` has."""

    id: str
    type: str
    author: str
    created: float
    data: Mapping[str, Any]


class Discussions:
    """The tables of discussions. Safe to use from any thread."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def next_number(self, repo: Repo) -> int:
        """The number after the last one of a repository. Hold the repository's git lock until it is used."""
        rows = self._db.rows("SELECT COALESCE(MAX(num), 0) + 1 FROM discussions WHERE repo_id = ?", repo.id)
        return int(rows[0][0])

    def add(self, repo: Repo, discussion: Discussion, description: str) -> None:
        """Enter a discussion whose number is free, with its first comment."""
        event = _event("comment", discussion.author, comment_data(description))
        with self._db.write() as db:
            db.execute(
                f"INSERT INTO discussions (repo_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    repo.id, discussion.num, discussion.title, discussion.author, discussion.created,
                    discussion.status, discussion.base, discussion.merge_commit,
                ),
            )  # fmt: skip
            _insert(db, repo, discussion.num, event)

    def get(self, repo: Repo, num: int) -> Discussion | None:
        """The discussion of that number."""
        rows = self._db.rows(f"SELECT {_COLUMNS} FROM discussions WHERE repo_id = ? AND num = ?", repo.id, num)
        return _discussion(rows[0]) if rows else None

    def all(self, repo: Repo) -> list[Discussion]:
        """Every discussion of a repository, newest first."""
        rows = self._db.rows(f"SELECT {_COLUMNS} FROM discussions WHERE repo_id = ? ORDER BY num DESC", repo.id)
        return [_discussion(row) for row in rows]

    def has_pull(self, repo: Repo, author: str) -> bool:
        """Whether `author` has a pull request that is open."""
        return any(d.is_pull and d.status in OPEN and d.author == author for d in self.all(repo))

    def events(self, repo: Repo, num: int) -> list[Event]:
        """What was said and done, oldest first."""
        rows = self._db.rows(
            f"SELECT {_EVENT} FROM discussion_events WHERE repo_id = ? AND num = ? ORDER BY created, rowid",
            repo.id,
            num,
        )
        return [Event(id=i, type=t, author=a, created=c, data=json.loads(d)) for i, t, a, c, d in rows]

    def comment(self, repo: Repo, num: int, author: str, text: str) -> Event:
        """Add a comment."""
        event = _event("comment", author, comment_data(text))
        with self._db.write() as db:
            _insert(db, repo, num, event)
        return event

    def rewrite(self, repo: Repo, num: int, event: Event, data: Mapping[str, Any]) -> Event:
        """Change what a comment says; it says that it was changed."""
        with self._db.write() as db:
            db.execute("UPDATE discussion_events SET data = ? WHERE id = ?", (json.dumps(data), event.id))
        return Event(id=event.id, type=event.type, author=event.author, created=event.created, data=data)

    def rename(self, repo: Repo, discussion: Discussion, title: str, author: str) -> Event:
        """Give a discussion another title."""
        event = _event("title-change", author, {"from": discussion.title, "to": title})
        with self._db.write() as db:
            key = (title, repo.id, discussion.num)
            db.execute("UPDATE discussions SET title = ? WHERE repo_id = ? AND num = ?", key)
            _insert(db, repo, discussion.num, event)
        return event

    def set_status(
        self, repo: Repo, num: int, status: str, author: str, *, comment: str = "", merge_commit: str | None = None
    ) -> Event:
        """Open, close or mark as merged, with a comment if there is one."""
        event = _event("status-change", author, {"status": status})
        with self._db.write() as db:
            db.execute(
                "UPDATE discussions SET status = ?, merge_commit = ? WHERE repo_id = ? AND num = ?",
                (status, merge_commit, repo.id, num),
            )
            if comment:
                _insert(db, repo, num, _event("comment", author, comment_data(comment)))
            _insert(db, repo, num, event)
        return event


def comment_data(text: str, *, edited: bool = False, hidden: bool = False) -> dict[str, Any]:
    """A comment's content as clients read it."""
    return {"edited": edited, "hidden": hidden, "latest": {"raw": "" if hidden else text}}


def _event(kind: str, author: str, data: Mapping[str, Any]) -> Event:
    return Event(id=token_hex(12), type=kind, author=author, created=time.time(), data=data)


def _insert(db: Any, repo: Repo, num: int, event: Event) -> None:
    db.execute(
        f"INSERT INTO discussion_events (repo_id, num, {_EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (repo.id, num, event.id, event.type, event.author, event.created, json.dumps(event.data)),
    )


def _discussion(row: tuple[Any, ...]) -> Discussion:
    num, title, author, created, status, base, merge_commit = row
    return Discussion(
        num=num, title=title, author=author, created=created, status=status, base=base, merge_commit=merge_commit
    )
