"""A progress bar for whoever waits at a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE = 1.0  # seconds
_PAUSE = 0.1
_WIDTH = 30


class Bar:
    """Shows itself on standard error once it has lasted longer than a second; silent where that is no terminal.

    Attributes:
        done: Bytes so far.
    """

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = max(1, total)
        self.done = 0
        self._next = time.monotonic() + _PATIENCE if sys.stderr.isatty() else float("inf")
        self._shown = False

    def advance(self, nbytes: int) -> None:
        """So many bytes more are done."""
        self.show(self.done + nbytes)

    def show(self, done: int) -> None:
        """So many bytes are done by now."""
        self.done = done
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PAUSE
            self._shown = True
            part = min(1.0, done / self._total)
            bar = "█" * round(part * _WIDTH)
            sys.stderr.write(f"\r{self._label} {bar:<{_WIDTH}} {part:4.0%} of {self._total / 1e9:.2f} GB")
            sys.stderr.flush()

    def clear(self) -> None:
        """Leave the line as it was."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def progress(label: str, total: int) -> Iterator[Bar]:
    """A bar for the length of the block; `total` in bytes."""
    bar = Bar(label, total)
    try:
        yield bar
    finally:
        bar.clear()
