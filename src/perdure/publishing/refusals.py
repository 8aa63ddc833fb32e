"""What is refused before anything is sent, because it could only fail, or surprise, afterwards."""

from __future__ import annotations

from collections.abc import Collection

from perdure.errors import Conflict, Rejected
from perdure.publishing.remote import RemoteRepo
from perdure.publishing.target import Target


def refuse_public(found: RemoteRepo) -> None:
    """A repository that everybody reads is no place for what was meant to be private.

    Raises:
        Rejected: It is public.
    """
    if not found.private:
        raise Rejected(
            f"{found.name} is public, and a private one was asked for. Nothing was sent.",
            hint="Make it private in its settings on the Hub, or choose another name.",
        )


def refuse_moving_tag(found: RemoteRepo, target: Target, unchanged_head: str | None) -> None:
    """A tag stays where it is.

    Raises:
        Conflict: It exists at another commit than the one that would be tagged.
    """
    there = found.tags.get(target.tag) if target.tag is not None else None
    if there is not None and there != unchanged_head:
        raise Conflict(
            f"The tag {target.tag} of {found.name} exists already, at commit {there[:12]}, and tags do not move. "
            "Nothing was sent.",
            hint="Choose a new tag, or push without one.",
        )


def refuse_names_beside(found: RemoteRepo, target: Target) -> None:
    """Git cannot hold `v1` and `v1/x` both; told here, before the commit, and in words that are true.

    Raises:
        Conflict: The branch or the tag is such a name.
    """
    _refuse_name_beside(target.revision, found.branches, "branch")
    _refuse_name_beside(target.tag, found.tags, "tag")


def _refuse_name_beside(name: str | None, there: Collection[str], what: str) -> None:
    for other in there:
        if name is not None and (other.startswith(f"{name}/") or name.startswith(f"{other}/")):
            raise Conflict(
                f"There is a {what} {other}, and git allows no {what} {name} beside it. Nothing was sent.",
                hint=f"Choose another name for the {what}.",
            )
