"""Work that few requests do at a time, shared out fairly among callers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

import anyio

from perdure.hub import limits
from perdure.hub.http import busy


class Turns:
    """Places for requests of one kind. Those that wait take no thread.

    A caller's own requests wait for each other first, and only then with everybody else's: whoever sends a hundred
    is before nobody who sends one.

    Args:
        total: How many requests have a place at a time.
        each: How many of them one caller's may be; fewer than `total`, or one caller could keep all others out.
        patience: Seconds that a request waits before it is refused.
        waiting: How many requests of one caller may wait.
    """

    def __init__(self, total: int, *, each: int, patience: float, waiting: int = limits.WAITING) -> None:
        self._total = anyio.CapacityLimiter(total)
        self._each = each
        self._patience = patience
        self._waiting = waiting
        self._own: WeakValueDictionary[str, anyio.CapacityLimiter] = WeakValueDictionary()

    @asynccontextmanager
    async def take(self, who: str) -> AsyncIterator[None]:
        """A place for the length of the block, for a request of `who`.

        Raises:
            ApiError: 503, when there was none in time, or too many of `who`'s wait already.
        """
        own = self._own.setdefault(who, anyio.CapacityLimiter(self._each))
        if own.statistics().tasks_waiting >= self._waiting:
            raise busy()
        async with AsyncExitStack() as held:
            with anyio.move_on_after(self._patience) as waiting:
                await held.enter_async_context(own)
                await held.enter_async_context(self._total)
            if waiting.cancelled_caught:
                raise busy()
            yield
