"""What the demo says while it works: numbered stations with their times, on standard error."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_BAR = 24  # characters
_INDENT = "     "


class Report:
    """Tells a person where the demo is, and remembers how long each station took.

    Attributes:
        seconds: Station → wall time, in the order in which they ended.
    """

    def __init__(self, stations: int) -> None:
        self._stations = stations
        self._number = 0
        self._tenth = 0
        self._bar_is_open = False
        self.seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        """A line of detail within a station."""
        self._end_bar()
        self._print(f"{_INDENT}{text}")

    @contextmanager
    def station(self, name: str, title: str) -> Iterator[None]:
        """Announce a station; tick it off with its time unless it fails."""
        self._number += 1
        self._print(f"\n{self._number}/{self._stations}  {title}")
        began = time.monotonic()
        try:
            yield
        finally:
            self._end_bar()
        self.seconds[name] = round(time.monotonic() - began, 1)
        self.say(f"✓ {self.seconds[name]:.1f} s")

    def progress(self, step: int, steps: int, loss: float, left: float) -> None:
        """A bar that is drawn over on a terminal; elsewhere a line for each tenth of the way."""
        shown = "" if math.isnan(loss) else f" · loss {loss:.2f}"
        line = f"step {step}/{steps}{shown} · {left:.0f} s left"
        if sys.stderr.isatty():
            bar = "━" * (_BAR * step // steps)
            self._print(f"\r{_INDENT}{bar:─<{_BAR}}  {line:<44}", end="")
            self._bar_is_open = True
        elif (tenth := 10 * step // steps) > self._tenth:
            self._tenth = tenth
            self.say(line)

    def _end_bar(self) -> None:
        if self._bar_is_open:
            self._bar_is_open = False
            self._print("")

    @staticmethod
    def _print(text: str, end: str = "\n") -> None:
        print(text, end=end, file=sys.stderr, flush=True)
