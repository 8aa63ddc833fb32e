"""SIGTERM and SIGUSR1 as a wish to stop: noted at once, granted at the next step boundary."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from types import FrameType
from typing import Any

_NUMBERS = (signal.SIGTERM, signal.SIGUSR1)  # schedulers send these before they kill


class StopSignals:
    """Notes the two signals from when it is made until `close`; `received` names the first that came.

    All that are open hear of it; who was asked before the first of them is asked again after the last. Python delivers
    signals to the main thread only, and only that one can ask for them: elsewhere nothing is noted.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            _open.add(self)
            for number in _NUMBERS:
                if signal.getsignal(number) is not _note:
                    _before[number] = signal.signal(number, _note)

    def close(self) -> None:
        """Note no more."""
        _open.discard(self)
        # Elsewhere than in the main thread it cannot be put back: the next signal finds nobody, and does that itself.
        if not _listening() and threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                if signal.getsignal(number) is _note:
                    _put_back(number)


_open: weakref.WeakSet[StopSignals] = weakref.WeakSet()  # weak, for one may be dropped and never closed
_before: dict[int, Any] = {}


def _listening() -> list[StopSignals]:
    """Who is open in this process, not in the one that it was forked from."""
    return [one for one in list(_open) if one.process == os.getpid()]


def _note(number: int, frame: FrameType | None) -> None:
    listening = _listening()
    for one in listening:
        one.received = one.received or signal.Signals(number).name
    if not listening:
        _put_back(number)
        os.kill(os.getpid(), number)


def _put_back(number: int) -> None:
    before = _before.pop(number, None)
    signal.signal(number, before if before is not None else signal.SIG_DFL)
