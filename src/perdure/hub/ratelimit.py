"""How many requests a caller may make, said in the headers that clients of the Hub read and wait by."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from perdure.hub.http import ApiError

WINDOW_SECONDS: Final = 300
_MOST_CALLERS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left to a caller in this window, of one kind of requests: `api`, `resolvers` (downloads) or `pages`."""

    kind: str
    limit: int
    used: int
    seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """As the IETF's draft-ietf-httpapi-ratelimit-headers-09 spells it, and `huggingface_hub` reads it."""
        return {
            "RateLimit": f'"{self.kind}";r={max(0, self.limit - self.used)};t={self.seconds}',
            "RateLimit-Policy": f'"fixed window";"{self.kind}";q={self.limit};w={WINDOW_SECONDS}',
        }

    def require(self) -> None:
        """Refuse the request that is one too many.

        Raises:
            ApiError: 429, which says when to come back.
        """
        if self.used > self.limit:
            raise ApiError(
                429,
                f"More than {self.limit} requests of the kind {self.kind!r} in {WINDOW_SECONDS // 60} minutes; "
                f"go on in {self.seconds} seconds.",
                headers={"Retry-After": str(self.seconds)},
            )


class RateLimiter:
    """Counts requests in fixed windows of `WINDOW_SECONDS`.

    Args:
        limit: Requests that one caller may make in a window, of each kind.
        clock: Seconds, as from `time.monotonic`.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._window = -1
        self._used: dict[tuple[str, str], int] = {}

    def count(self, who: str, path: str) -> Allowance:
        """Count a request of `who` (a name for a user or an address) to an address of the hub."""
        kind = "api" if path.startswith("/api/") else "resolvers" if "/resolve/" in path else "pages"
        now = self._clock()
        with self._lock:
            if int(now // WINDOW_SECONDS) != self._window:
                self._window, self._used = int(now // WINDOW_SECONDS), {}
            key = (who, kind)
            if key not in self._used and len(self._used) >= _MOST_CALLERS:
                key = ("the rest", kind)  # memory is bounded: strangers beyond this number share one allowance
            used = self._used[key] = self._used.get(key, 0) + 1
        seconds = math.ceil(WINDOW_SECONDS - now % WINDOW_SECONDS)
        return Allowance(kind=kind, limit=self._limit, used=used, seconds=seconds)
