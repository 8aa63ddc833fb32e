"""Hubs that did not answer as they should, and until when each is left alone: also by the next process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NAME = "away.json"
_MOST_SECONDS = 3600.0  # of a note by a clock that was wrong


@dataclass(slots=True)
class Away:
    """A Hub that did not answer as it should.

    Attributes:
        failures: How often in a row.
        until: When it is asked again; on the clock of `time.monotonic`.
        asked_until: Until when it asked to be left alone.
    """

    failures: int = 0
    until: float = 0.0
    asked_until: float = 0.0


class Hubs:
    """The Hubs of an outbox that are away.

    Args:
        folder: Of the outbox. What a Hub asked for is noted in it.
        wait: Seconds to leave a Hub alone after so many failures in a row.
    """

    def __init__(self, folder: Path, wait: Callable[[int], float]) -> None:
        self._note = folder / _NAME
        self._wait = wait
        self._away: dict[str, Away] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):  # without it, they ask again
            for endpoint, until in json.loads(self._note.read_bytes()).items():
                at = time.monotonic() + min(until - time.time(), _MOST_SECONDS)
                self._away[endpoint] = Away(until=at, asked_until=at)

    def paused(self) -> set[str]:
        """Those that are not to be asked now."""
        return {endpoint for endpoint, away in self._away.items() if away.until > time.monotonic()}

    def rest(self) -> float:
        """Seconds until the next of them is asked again; 0 where none is away."""
        left = [away.until - time.monotonic() for away in self._away.values()]
        return min((seconds for seconds in left if seconds > 0), default=0.0)

    def hurry(self) -> None:
        """Somebody waits: ask again at once, but for those that asked to be left alone."""
        for away in self._away.values():
            away.until = away.asked_until

    def failed(self, endpoint: str, *, retry_after: float) -> float:
        """Note that one is away; returns when it is asked again, in seconds since 1970."""
        away = self._away.setdefault(endpoint, Away())
        away.failures += 1
        away.asked_until = time.monotonic() + retry_after
        away.until = max(time.monotonic() + self._wait(away.failures), away.asked_until)
        if retry_after > 0:
            self._write()
        return time.time() + away.until - time.monotonic()

    def answered(self, endpoint: str) -> None:
        """Note that one is there."""
        if endpoint in self._away:
            self._away[endpoint].failures = 0

    def _write(self) -> None:
        now = time.monotonic()
        asked = {name: time.time() + away.asked_until - now for name, away in self._away.items()}
        with suppress(OSError):
            new = self._note.with_suffix(".new")
            new.write_text(json.dumps({name: until for name, until in asked.items() if until > time.time()}))
            new.replace(self._note)
