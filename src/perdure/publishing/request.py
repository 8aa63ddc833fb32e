"""What was asked for: one record that is carried through, and the shell command that asks for the same again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import InvalidInput
from perdure.publishing.target import MAIN, Target, check_commit, check_revision, endpoint_words


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """A push. It holds no token.

    Attributes:
        target: Where to.
        private: Whether the repository is created private, if it is created; where True, a public one is refused.
        message: The commit's message.
        start: Where a branch that is new begins: at the head of `main`, or for "first" at the repository's first
            commit.
        training_state: Of a checkpoint, also send what only resuming needs.
        allow: Findings of the scan for secrets to pass over.
        expected_head: The commit at which the branch must be, or "" for a branch that is to begin with this push.

    Raises:
        InvalidInput: One of them cannot be.
    """

    target: Target
    private: bool | None = None
    message: str | None = None
    start: str | None = None
    training_state: bool = False
    allow: Sequence[str] = ()
    expected_head: str | None = None

    def __post_init__(self) -> None:
        if self.private is not None and not isinstance(self.private, bool):
            raise InvalidInput(f"private={self.private!r} is none of True, False and None. Nothing was sent.")
        if self.start not in (None, "first"):
            raise InvalidInput(f"start={self.start!r} is neither None nor 'first'. Nothing was sent.")
        if self.expected_head:
            check_commit(self.expected_head)

    def command(self, folder: Path) -> str:
        """The shell command that pushes `folder` so, to a branch that is there.

        >>> PushRequest(target=Target(repo="me/model", tag="v1.0")).command(Path("my runs/a"))
        "perdure push 'my runs/a' me/model --tag v1.0"
        """
        target = self.target
        words = ["perdure", "push", str(folder), target.repo]
        words += ["--revision", target.revision] if target.revision != MAIN else []
        words += ["--path-in-repo", target.path_in_repo] if target.path_in_repo else []
        words += ["--tag", target.tag] if target.tag is not None else []
        words += [] if self.private is None else ["--private" if self.private else "--public"]
        words += ["--training-state"] if self.training_state else []
        words += ["--message", self.message] if self.message is not None else []
        words += ["--expected-head", self.expected_head] if self.expected_head is not None else []
        words += [word for finding in self.allow for word in ("--allow", finding)]
        return shlex.join(words + endpoint_words(target.endpoint))


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteRequest:
    """A promotion of `revision` to the branch of `target`. It holds no token.

    Attributes:
        target: The branch that becomes what the revision is, and the tag.
        revision: A branch, a tag or a commit's whole id.
        force: Move the tag if it is elsewhere.
        training_state: Copy what only resuming needs, too.
        message: Of the commit and of the tag.
        expected_head: The commit at which the branch must be.

    Raises:
        InvalidInput: One of them cannot be.
    """

    target: Target
    revision: str
    force: bool = False
    training_state: bool = False
    message: str | None = None
    expected_head: str | None = None

    def __post_init__(self) -> None:
        check_revision(self.revision)
        if self.expected_head:
            check_commit(self.expected_head)

    @property
    def command(self) -> str:
        """The shell command that asks for the same again."""
        target = self.target
        words = ["perdure", "promote", f"{target.repo}@{self.revision}"]
        words += ["--to", target.revision] if target.revision != MAIN else []
        words += ["--tag", target.tag] if target.tag is not None else []
        words += ["--force"] if self.force else []
        words += ["--training-state"] if self.training_state else []
        words += ["--message", self.message] if self.message is not None else []
        words += ["--expected-head", self.expected_head] if self.expected_head is not None else []
        return shlex.join(words + endpoint_words(target.endpoint))
