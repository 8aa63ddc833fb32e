"""Addresses of one repository's pages."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from perdure.hub.core import PREFIX
from perdure.hub.db import Repo


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Makes addresses of a repository's pages, as paths.

    >>> Links(base="/me/m").blob("refs/pr/1", "a b/c#.txt")
    '/me/m/blob/refs%2Fpr%2F1/a%20b/c%23.txt'
    """

    base: str

    @classmethod
    def to(cls, repo: Repo) -> Links:
        """The addresses of `repo`."""
        return cls(base=f"/{PREFIX[repo.kind]}{repo.full_name}")

    def at(self, page: str, revision: str = "", path: str = "") -> str:
        """The address of a page, at a revision and path where it has them."""
        parts = [self.base, page, *([quote(revision, safe="")] if revision else []), *([quote(path)] if path else [])]
        return "/".join(parts)

    def card(self, revision: str) -> str:
        """The card, as it is in a revision."""
        return self.base if revision == "main" else f"{self.base}?revision={quote(revision, safe='')}"

    def tree(self, revision: str, path: str = "") -> str:
        """A folder."""
        return self.at("tree", revision, path)

    def blob(self, revision: str, path: str) -> str:
        """A file's page."""
        return self.at("blob", revision, path)

    def resolve(self, revision: str, path: str) -> str:
        """A file's bytes."""
        return self.at("resolve", revision, path)

    def commits(self, revision: str, path: str = "") -> str:
        """The history of a revision, or of one path in it."""
        return self.at("commits", revision, path)

    def commit(self, oid: str) -> str:
        """What one commit changed."""
        return self.at("commit", oid)
