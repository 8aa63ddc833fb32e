"""Sign-ins of browsers: a random cookie that stands for a token, for a while, where pages and files are read."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from perdure.hub import auth
from perdure.hub.accounts import token_digest
from perdure.hub.db import Database

COOKIE: Final = "perdure_session"
SECONDS: Final = 12 * 3600
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    digest: bytes
    ends: float


class Sessions:
    """Who is signed in. Kept in memory: a restart signs everybody out, and signing out ends a copied cookie, too.

    The cookie says nothing about the token, and the token is looked up again for each request, so that removing
    it ends its sessions. Only what reads asks here (`core.Call.admit`): no page of another site can make a browser
    change anything.

    Args:
        clock: Seconds, as from `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # by digest: how long it takes to find a cookie says nothing of it
        self._sessions: dict[bytes, _Session] = {}

    def start(self, token: str) -> str:
        """A new cookie's value for the holder of `token`; the oldest sign-in goes when there are too many."""
        value = secrets.token_urlsafe(32)
        with self._lock:
            if len(self._sessions) >= _MOST:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[token_digest(value)] = _Session(digest=token_digest(token), ends=self._clock() + SECONDS)
        return value

    def end(self, value: str) -> None:
        """Forget a sign-in."""
        with self._lock:
            self._sessions.pop(token_digest(value), None)

    def caller(self, db: Database, cookies: Mapping[str, str]) -> auth.Caller | None:
        """Who is signed in with these cookies; None when nobody is, or no longer."""
        value = token_digest(cookies.get(COOKIE, ""))
        with self._lock:
            session = self._sessions.get(value)
            if session is not None and session.ends < self._clock():
                del self._sessions[value]
                session = None
        return auth.find_caller(db, session.digest) if session else None
