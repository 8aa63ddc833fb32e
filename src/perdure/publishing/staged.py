"""Several commits that readers see as one: on a branch of their own, to whose end the ref then moves.

The client's interface has no call that moves a branch. A final commit of everything would be as large as the first;
deleting and creating the branch would leave a moment without one, and `main` cannot be deleted; a pull request is
merged whatever was committed meanwhile. A push in git's own protocol moves a ref at once, from the commit that it
names or not at all, and every Hub speaks it: one request, with a pack of no objects, for the Hub has them all.

Specification: https://git-scm.com/docs/gitprotocol-pack, https://git-scm.com/docs/gitprotocol-http
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from perdure.errors import HubError
from perdure.publishing import once
from perdure.publishing.parts import Part
from perdure.publishing.remote import Remote, RemoteRepo
from perdure.publishing.selection import Content
from perdure.publishing.target import STAGING

_ABANDONED_SECONDS = 7 * 86400.0  # longer than any part takes to be sent
_MOST_AT_ONCE = 20


def staging_branch(push_id: str) -> str:
    """The branch on which a push's commits are made before anybody sees them."""
    return STAGING + push_id


def is_staging_branch(name: str) -> bool:
    """Whether a branch is one that `staging_branch` named: it is gone as soon as its push is over."""
    return name.startswith(STAGING)


def clear_up(remote: Remote, found: RemoteRepo, push_id: str) -> None:
    """Delete the branch that an earlier try of this push left, and those of pushes that were killed long ago.

    Others may be at theirs: one that has no commit of its push yet says nothing of its age, and stays.
    """
    ours = staging_branch(push_id)
    for branch in sorted(filter(is_staging_branch, found.branches), key=lambda name: name != ours)[:_MOST_AT_ONCE]:
        with suppress(HubError):  # nothing rests on it
            if branch == ours or _is_abandoned(remote, found.name, branch):
                remote.delete_branch(found.name, branch)


def _is_abandoned(remote: Remote, repo: str, branch: str) -> bool:
    newest = next(remote.commits(repo, branch), None)
    if newest is None or not once.is_of(newest, branch.removeprefix(STAGING)):
        return False
    return time.time() - remote.committed_at(repo, newest.commit) > _ABANDONED_SECONDS


def commit_in_parts(
    remote: Remote,
    repo: str,
    branch: str,
    parts: Sequence[Part],
    contents: Mapping[str, Content],
    *,
    message: str,
    push_id: str,
    parent: str,
    check: Callable[[str], None],
) -> str:
    """Make the commits on top of `parent`, then move the branch from there to the last of them, or not at all.

    Args:
        check: Called with the last commit before anybody sees it; what it raises ends the push.

    Returns:
        The last commit.

    Raises:
        Conflict: The branch is no longer at `parent`.
    """
    staging, head = staging_branch(push_id), parent
    title, _, rest = message.partition("\n")
    remote.create_branch(repo, staging, start=parent)
    try:
        for number, part in enumerate(parts, start=1):
            head = remote.commit(
                repo,
                staging,
                add={path: contents[path] for path in part.add},
                delete=part.delete,
                message=once.signed(f"{title} ({number} of {len(parts)})\n{rest}".strip(), push_id),
                parent=head,
            )
        check(head)
        remote.move_branch(repo, branch, request=move_request(branch, old=parent, new=head), old=parent)
    finally:
        with suppress(HubError):  # then the next try of this push removes it
            remote.delete_branch(repo, staging)
    return head


def move_request(branch: str, *, old: str, new: str) -> bytes:
    """The body of a push that moves a branch to a commit which the Hub has already.

    >>> move_request("main", old="a" * 40, new="b" * 40)[:6]
    b'0073aa'
    """
    line = f"{old} {new} refs/heads/{branch}\0report-status".encode()
    pack = b"PACK" + (2).to_bytes(4, "big") + (0).to_bytes(4, "big")
    return b"%04x" % (len(line) + 4) + line + b"0000" + pack + hashlib.sha1(pack, usedforsecurity=False).digest()
