"""Exactly one commit per push: each carries its push's id, by which a push that is repeated finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from perdure.errors import Conflict, PerdureError, Unavailable
from perdure.format.names import CARD, MANIFEST
from perdure.publishing.remote import Remote, RemoteCommit
from perdure.publishing.remote_file import RemoteFile

NOBODY = ""  # as the head that is expected: nobody has committed to the branch
RESULTS = "-results"  # at the end of the id of a commit that only writes onto the card what was measured
_TRAILER = "Perdure-Push"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A try of a push.

    Attributes:
        push_id: The same at every try: where an earlier one made its commit, that is the outcome. None for a push
            that is tried once.
        tried_on: What `on_base` was told at the first try; None if there was none.
        on_base: Called before anything is committed with the commit to commit on; "" for an empty repository.
    """

    push_id: str | None = None
    tried_on: str | None = None
    on_base: Callable[[str], object] | None = None


ONLY_TRY = Attempt()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The commit that an earlier try of a push made, and the one that it was made on."""

    commit: str
    parent: str | None


def signed(message: str, push_id: str | None) -> str:
    """A commit's message that says which push made it.

    >>> signed("Step 20", "0a1b")
    'Step 20\\n\\nPerdure-Push: 0a1b'
    """
    return message if push_id is None else f"{message}\n\n{_TRAILER}: {push_id}"


def is_of(commit: RemoteCommit, push_id: str) -> bool:
    """Whether a push made a commit."""
    return f"{_TRAILER}: {push_id}" in commit.message.splitlines()


def find(remote: Remote, repo: str, branch: str, push_id: str | None, *, since: str | None) -> Made | None:
    """What an earlier try of a push committed to a branch, whatever was committed on top of it meanwhile.

    Args:
        since: The commit that the first try was made for, as `on_base` was told; None if there was no try.
    """
    if push_id is None or since is None:
        return None
    made = None
    for commit in remote.commits(repo, branch):
        ours = is_of(commit, push_id)
        if made is not None and not ours:  # a large push is several commits, one after the other
            return Made(commit=made, parent=commit.commit)
        if commit.commit == since:
            return None
        if ours and made is None:
            made = commit.commit
    return None if made is None else Made(commit=made, parent=None)


def beneath_cards(remote: Remote, repo: str, head: str | None, expected: str | None) -> str | None:
    """`expected`, where on top of it nothing but the card was changed since; otherwise the head as it is.

    A job of a cluster may write results there whenever it is done, and a person some words: that is nobody else's
    model, and a push keeps it.
    """
    if head is None or not expected or head == expected:
        return head
    try:
        before = remote.tree(repo, expected)
    except Unavailable:
        raise
    except PerdureError:  # it is no longer in the repository's history
        return head
    return expected if without_card(before) == without_card(remote.tree(repo, head)) else head


def without_card(tree: Mapping[str, RemoteFile]) -> dict[str, RemoteFile]:
    """The files of a model, but for its card and the manifest, which has the card's digest."""
    return {path: file for path, file in tree.items() if path.rpartition("/")[2] not in (CARD, MANIFEST)}


def require_head(repo: str, branch: str, head: str | None, expected: str | None) -> None:
    """Refuse to push over what somebody else committed.

    Raises:
        Conflict: The branch is not at the commit at which it was expected.
    """
    if expected is None or head == expected:
        return
    now = f"is at {head[:12]}" if head is not None else "is gone"
    raise Conflict(
        f"{branch} of {repo} {now}, and {expected[:12]} was expected: somebody else was there. Nothing was sent.",
        hint="Look at what they did before you push on top of it.",
    )


def require_new(repo: str, branch: str, head: str, *, start: str | None) -> None:
    """Refuse to push to a branch that was to be new, where somebody else's commits are on it.

    Args:
        start: The commit at which it is made; where it still is, a push ended before it committed.

    Raises:
        Conflict: It is elsewhere.
    """
    if head != start:
        raise Conflict(
            f"{branch} of {repo} is there already, with other files, at {head[:12]}: another run pushed it. "
            "Nothing was sent.",
            hint="Give this run a repository or a hub_revision of its own.",
        )
