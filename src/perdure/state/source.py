"""What a loader fetches for an epoch: batches told apart from their notes, and indices that are passed over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from perdure.state import rng
from perdure.state.watch import Draws
from perdure.state.workers import Note


class Fetched(NamedTuple):
    """A batch that training has not taken yet; `before` is the moment before it was made, where no worker made it."""

    note: Note | None
    before: dict[str, Any] | None


class Source:
    """What the inner loader fetches, told apart from the notes that came with it.

    Args:
        noted: Whether notes come with the batches.
        queue: What is fetched is put there, until training takes it.
        moment: Tells what a batch depends on; None where no batch is fetched before it is taken.

    Attributes:
        ahead: The moment of the next batch, where the interrupted run had fetched it before its last step.
    """

    def __init__(
        self,
        iterator: Iterator[Any],
        noted: bool,
        queue: deque[Fetched],
        moment: Callable[[], dict[str, Any]] | None,
    ) -> None:
        self.ahead: dict[str, Any] | None = None
        self._moment = moment
        self._iterator = iterator
        self._noted = noted
        self._queue = queue

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        before, fetched = self._fetch()
        batch, note = fetched if self._noted else (fetched, None)
        self._queue.append(Fetched(note, before))
        return batch

    def _fetch(self) -> tuple[dict[str, Any] | None, Any]:
        if (ahead := self.ahead) is None:
            return self._moment() if self._moment is not None else None, next(self._iterator)
        self.ahead, now = None, rng.cpu_state()
        rng.set_cpu_state(ahead)
        try:
            return ahead, next(self._iterator)
        finally:
            rng.set_cpu_state(now)


class Skipping:
    """An index sampler whose first `count` entries are passed over until it is `force`d.

    `rewind` is called each time that it is gone through until then: the loader draws nothing more afterwards.

    Args:
        draws: Is told of what the sampler draws.
    """

    def __init__(self, sampler: Any, draws: Draws, count: int = 0, rewind: Callable[[], None] | None = None) -> None:
        self._sampler = sampler
        self._draws = draws
        self._count = count
        self._rewind = rewind
        self._latest: _Skipped | None = None

    def __iter__(self) -> Iterator[Any]:
        if self._rewind is not None:
            self._rewind()
        self._latest = _Skipped(self._draws.watch(iter(self._sampler)), self._count)
        return self._latest

    def __len__(self) -> int:
        return len(self._sampler)

    def force(self) -> None:
        """Pass over them now, while the generators are those of the epoch's beginning."""
        if self._latest is not None:
            self._latest.force()
        self._count, self._rewind = 0, None


class _Skipped:
    def __init__(self, entries: Iterator[Any], count: int) -> None:
        self._entries = entries
        self._left = count

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.force()
        return next(self._entries)

    def force(self) -> None:
        while self._left:
            self._left -= 1
            if next(self._entries, self) is self:  # there are no more, whatever the checkpoint counted
                self._left = 0


def index_sampler(inner: Any) -> Any:
    return inner.sampler if inner.batch_sampler is None else inner.batch_sampler
