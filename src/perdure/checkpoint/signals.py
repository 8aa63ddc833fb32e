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
        if threading.current_thread() is threading.main_thread():
            _listen(self)

    def close(self) -> None:
        """Note no more."""
        _open.discard(self)
        if not _open:
            _put_back()


_open: weakref.WeakSet[StopSignals] = weakref.WeakSet()  # weak, for one may be dropped and never closed
_before: dict[int, Any] = {}
_process = os.getpid()


def _listen(one: StopSignals) -> None:
    global _process
    if _process != os.getpid():  # what was open before the fork is the parent's
        _open.clear()
        _process = os.getpid()
    _open.add(one)
    for number in _NUMBERS:
        if signal.getsignal(number) is not _note:
            _before[number] = signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    if not _open or _process != os.getpid():
        # Nobody listens any more, or this is a forked child, which must die of it as it would without us.
        before = _before.get(number) if _process == os.getpid() else None
        signal.signal(number, before if before is not None else signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    for one in list(_open):
        one.received = one.received or signal.Signals(number).name


def _put_back() -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # whoever closed it may not; the next signal finds nobody, and puts back itself
    for number, before in list(_before.items()):
        if signal.getsignal(number) is _note:
            signal.signal(number, before if before is not None else signal.SIG_DFL)
    _before.clear()
