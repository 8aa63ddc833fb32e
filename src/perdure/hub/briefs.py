"""What lists say of repositories, remembered by their newest commits."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from dulwich.objects import ObjectID

_REMEMBERED: Final = 10_000
_MOST_TAGS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What a commit says of its repository: the facts of a list's row, and the number of parameters."""

    facts: dict[str, Any]
    parameters: int


class Briefs:
    """The briefs of one hub, as many as memory is given for. Safe to use from any thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, ObjectID], Brief] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, repo_id: str, commit: ObjectID) -> Brief | None:
        """What is remembered of a commit."""
        with self._guard:
            return self._known.get((repo_id, commit))

    def remember(self, repo_id: str, commit: ObjectID, brief: Brief) -> None:
        """Remember a brief, unless its tags are many or long; the oldest goes when there are too many."""
        tags = brief.facts["tags"]
        if len(tags) > _MOST_TAGS or sum(map(len, tags)) > 100 * _MOST_TAGS:
            return  # memory is bounded whatever people write into their cards
        with self._guard:
            self._known[repo_id, commit] = brief
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
