"""SIGTERM and SIGUSR1 as a wish to stop: noted at once, granted at the next step boundary."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

_log = logging.getLogger("perdure")
_NUMBERS = (signal.SIGTERM, signal.SIGUSR1)  # schedulers send these before they kill


class StopSignals:
    """Notes the two signals from when it is made until `close`; `received` names the first that came.

    Python delivers signals to the main thread only, and only that one can ask for them: elsewhere nothing is noted.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._process = os.getpid()
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _NUMBERS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked child, which must die of it as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = self.received or signal.Signals(number).name

    def close(self) -> None:
        """Put back who was asked before."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, before if before is not None else signal.SIG_DFL)
        self._before = {}
