"""What a push tells afterwards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a push did. It holds no token.

    Attributes:
        repo: The repository's full name.
        endpoint: The Hub's address.
        url: Where a person reads the published model.
        revision: The branch.
        commit: Its head now: the new commit, or the one that had everything already.
        commit_url: Where a person reads that commit.
        tag: The tag at that commit, if one was asked for.
        private: Whether only its owners see the repository.
        files: Paths added or changed.
        deleted: Paths of an earlier save that were deleted in the same commit.
        bytes_sent: Bytes of `files`; the client sends fewer where the Hub holds parts of them.
        created: Whether the repository was created.
        created_branch: Whether the branch was.
        made_public: Whether the repository was private, and was made public.
        changed: Whether there is a new commit.
        left_out: Names in the folder that do not belong to the model and stayed on this machine.
        path_in_repo: The folder of the repository in which it lies; empty for its root.
        results_commit: The commit on top of it that wrote onto the card what was measured after the push.
    """

    repo: str
    endpoint: str
    url: str
    revision: str
    commit: str
    commit_url: str
    tag: str | None
    private: bool
    files: tuple[str, ...]
    deleted: tuple[str, ...]
    bytes_sent: int
    created: bool
    changed: bool
    left_out: tuple[str, ...]
    path_in_repo: str = ""
    results_commit: str | None = None
    created_branch: bool = False
    made_public: bool = False

    @property
    def head(self) -> str:
        """Where the branch was left."""
        return self.results_commit or self.commit
