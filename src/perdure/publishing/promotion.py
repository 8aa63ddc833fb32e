"""What `promote` did, or would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What `promote` did; with `dry_run`, what it would do.

    Attributes:
        repo: The repository's full name.
        endpoint: The Hub's address.
        revision: The revision that was chosen, as it was named.
        chosen: Its commit.
        to: The branch that holds the same files now.
        before: The commit at which that branch was; None if it is new.
        commit: The commit at which it is now; None where a dry run would make one.
        copied: Files that differed, made what they are at `chosen`: path → bytes. The Hub copies large ones itself.
        deleted: Files that the chosen revision does not have: path → bytes. The branch's history keeps them.
        tag: The tag at `commit`, if one was asked for.
        tag_before: The commit at which the tag was before it was moved; None if it was not moved.
        changed: Whether there is a new commit.
        dry_run: Whether nothing of this was done.
    """

    repo: str
    endpoint: str
    revision: str
    chosen: str
    to: str
    before: str | None
    commit: str | None
    copied: Mapping[str, int]
    deleted: Mapping[str, int]
    tag: str | None
    tag_before: str | None
    changed: bool
    dry_run: bool

    @property
    def url(self) -> str:
        """Where a person reads the promoted model."""
        page = f"{self.endpoint}/{self.repo}"
        return page if self.to == "main" else f"{page}/tree/{self.to}"
