"""A revision of a repository, as `revisions` lists it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A branch or tag of a repository, and what is known of the model in it.

    Attributes:
        name: The branch or tag.
        kind: `branch` or `tag`.
        commit: Its commit.
        committed_at: When that was made, in seconds since 1970.
        step: Of which step of training it is; None where nothing tells.
        metrics: Metric → value, from its manifest, its trainer's log and its card; where they differ, the card's.
        metric: The metric by which the revisions are compared; None where none has one.
        score: Its value of that metric; None where it has none.
        best: Whether it is the best by that metric, the newest step of equals.
        problem: What of it could not be read; None if all could.
    """

    name: str
    kind: Literal["branch", "tag"]
    commit: str
    committed_at: float | None = None
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    metric: str | None = None
    score: float | None = None
    best: bool = False
    problem: str | None = None

    def as_document(self) -> dict[str, Any]:
        """The same for `json.dumps`."""
        return asdict(self)
