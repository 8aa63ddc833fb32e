"""What every request of the Hub's client keeps to: it ends in time, and with an answer of a sane size.

By hooks of the client's shared session, because several of its calls ask for no timeout in so many words, over the
session's own, and because the client repeats a failed request up to five times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_CONNECT_SECONDS = 10.0
_HOOKS = threading.Lock()
_HERE = threading.local()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long, and how much.

    Args:
        answer: Seconds to wait for the next byte of an answer; also for all of an answer that has begun, where its
            size is bounded.
        total: Seconds after which nothing more is asked, repetitions included.
        nbytes: Bytes of one answer, unpacked.
    """

    answer: float = 20
    total: float = 30
    nbytes: float = 256 * 2**20


@contextmanager
def bounded(bounds: Bounds, guard: Callable[[Any], None]) -> Iterator[None]:
    """Let no request of this thread, and of the threads that the client starts, go on for ever.

    A timeout that was set already is kept.

    Args:
        guard: Called with each request before it is sent.
    """
    from huggingface_hub import get_session

    until = time.monotonic() + bounds.total
    limits = {"connect": _CONNECT_SECONDS, "read": bounds.answer, "write": bounds.answer, "pool": _CONNECT_SECONDS}
    here = object()

    def concerned() -> bool:  # by what the client's own threads ask, too: nobody knows for whom
        return getattr(_HERE, "bounded", None) in (None, here)

    def ask(request: Any) -> None:
        if not concerned():
            return
        if time.monotonic() > until:
            raise TimeoutError("no answer in time")
        asked = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {**limits, **{kind: at for kind, at in asked.items() if at is not None}}
        guard(request)

    def receive(response: Any) -> None:
        if concerned() and bounds.nbytes < float("inf"):
            _bound_body(response, bounds.nbytes, min(until, time.monotonic() + bounds.answer))

    session, before = get_session(), getattr(_HERE, "bounded", None)
    _HERE.bounded = here
    _set_hooks(session, lambda kind, hooks: [*hooks, ask if kind == "request" else receive])
    try:
        yield
    finally:
        _HERE.bounded = before
        _set_hooks(session, lambda kind, hooks: [hook for hook in hooks if hook not in (ask, receive)])


def _bound_body(response: Any, nbytes: float, until: float) -> None:
    """Break off an answer that comes byte by byte, or without end: the client reads all of it through this method."""
    blocks = response.iter_bytes

    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        received = 0
        for block in blocks(chunk_size):
            received += len(block)
            if received > nbytes:
                raise ConnectionError("the answer is larger than any that was asked for")
            if time.monotonic() > until:
                raise TimeoutError("the answer did not end in time")
            yield block

    response.iter_bytes = iter_bytes


def _set_hooks(session: Any, change: Callable[[str, list[Any]], list[Any]]) -> None:
    """Give a session other lists of hooks: one that a request of another thread goes through stays as it is."""
    with _HOOKS:
        session.event_hooks = {kind: change(kind, list(hooks)) for kind, hooks in session.event_hooks.items()}
