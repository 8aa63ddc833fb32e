"""What a push would do, for `dry_run=True`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlan:
    """What a push would do now. Nothing was changed on the Hub to find that out.

    Attributes:
        repo: The repository's full name.
        endpoint: The Hub's address.
        revision: The branch.
        base: The commit that it was compared with; None where there is none yet.
        tag: The tag that the new commit would get.
        private: Whether only its owners would see the repository.
        makes_public: Whether a private repository would be made public, after the push.
        creates: Whether the repository would be created.
        creates_branch: Whether the branch would be.
        add: Files that are new there: path → bytes.
        change: Files that differ from what is there: path → bytes here.
        delete: Files of an earlier save that would be deleted: path → bytes there.
        keep: Files that are there already, byte for byte: path → bytes.
        left_out: Names in the folder that do not belong to the model and stay on this machine.
    """

    repo: str
    endpoint: str
    revision: str
    base: str | None
    tag: str | None
    private: bool
    makes_public: bool
    creates: bool
    creates_branch: bool
    add: Mapping[str, int]
    change: Mapping[str, int]
    delete: Mapping[str, int]
    keep: Mapping[str, int]
    left_out: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether no commit would be made."""
        return self.base is not None and not (self.add or self.change or self.delete)

    @property
    def nbytes(self) -> int:
        """Bytes of what is added and changed; the client sends fewer where the Hub holds parts of them."""
        return sum(self.add.values()) + sum(self.change.values())
