"""How long a client may take, and how many may be connected: what the server library leaves open.

A connection without a request under way is idle, and has `limits.HEADER_SECONDS` to send one whole head of a request.
Where there are as many connections as the hub takes, the one that was idle for longest gives way to a new one, so
nobody who only holds connections keeps anybody out. With a request under way on each, a new one is answered 503.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from perdure.hub import limits

REFUSED: Final = "perdure.refused"
"""Where the state of a request's scope says that the hub has too much to do to answer it."""


def most_connections() -> int:
    """How many connections the hub takes: `limits.CONNECTIONS`, or half of the files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limits.CONNECTIONS if soft == resource.RLIM_INFINITY else min(limits.CONNECTIONS, soft // 2)


class Connection(H11Protocol):
    """A connection that does not wait for its client for ever."""

    _since = 0.0
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; make room for it."""
        super().connection_made(transport)
        self._watch()
        excess = len(self.connections) - most_connections()
        if excess <= 0:
            return
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        longest = min((other for other in others if other._idle), key=lambda other: other._since, default=None)
        if longest is not None:
            longest._drop()
        elif excess <= limits.REFUSALS:
            self.app_state: dict[str, Any] = {**self.app_state, REFUSED: True}
        else:
            self._drop()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or what claims to be one."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """An answer has gone out; the next request may come."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is made."""
        super().pause_writing()
        _cancel(self._unread)
        self._unread = self.loop.call_later(limits.UNREAD_SECONDS, self._drop)

    def resume_writing(self) -> None:
        """The client has taken some of its answer."""
        super().resume_writing()
        _cancel(self._unread)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, whoever ended it."""
        _cancel(self._deadline)
        _cancel(self._unread)
        super().connection_lost(exc)

    def _watch(self) -> None:
        if not self._idle or self.transport.is_closing():
            _cancel(self._deadline)
            self._deadline = None
        elif self._deadline is None:
            self._since = self.loop.time()
            self._deadline = self.loop.call_later(limits.HEADER_SECONDS, self._drop)

    def _drop(self) -> None:
        self.connections.discard(self)  # at once: the loop tells of many new connections before this one is lost
        self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
