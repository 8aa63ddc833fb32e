"""Functions of this process that follow pushes: on a thread of their own, so that one that hangs holds up nothing."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping

from perdure.publishing.after import Followed, checked
from perdure.publishing.outbox_store import Store
from perdure.publishing.receipt import Receipt

Function = Callable[[Receipt], object]

_log = logging.getLogger("perdure")


class Functions:
    """Calls functions one after the other, each once the push that it follows is done.

    Args:
        store: Where the pushes are.
        called: Called on that thread after each of them.
    """

    def __init__(self, store: Store, called: Callable[[], None]) -> None:
        self._store = store
        self._called = called
        self._waiting: dict[str, Function] = {}
        self._due: queue.SimpleQueue[tuple[str, Function]] = queue.SimpleQueue()
        self._left: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, job: str, function: Function) -> None:
        """Have a function follow the push of a job."""
        self._waiting[job] = function

    def discard(self, job: str) -> None:
        """Have nothing follow a job."""
        self._waiting.pop(job, None)

    def begin(self, job: str) -> None:
        """Have its function called, if it has one, now that the job is done."""
        if (function := self._waiting.pop(job, None)) is None:
            return
        with self._changed:
            self._left.add(job)
        self._due.put((job, function))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="perdure-after-push", daemon=True)
            self._thread.start()

    def is_at(self, job: str) -> bool:
        """Whether its function is still to end."""
        return job in self._left

    @property
    def busy(self) -> bool:
        """Whether a function is still to end."""
        return bool(self._left)

    def wait(self, seconds: float) -> None:
        """Wait until all that were begun have ended, or for so long."""
        until = time.monotonic() + seconds
        with self._changed:
            self._changed.wait_for(lambda: not self._left, until - time.monotonic())

    def _run(self) -> None:
        while True:
            job, function = self._due.get()
            try:
                self._call(job, function)
            except Exception:  # the outbox could not be changed: the job says that nothing followed it
                _log.exception("What came of the function that followed a push could not be written down.")
            with self._changed:
                self._left.discard(job)
                self._changed.notify_all()
            self._called()

    def _call(self, job: str, function: Function) -> None:
        receipt = self._store.job(job).receipt
        assert receipt is not None, "it is done"
        try:
            told = function(receipt)
            followed = Followed(results=checked(told) if isinstance(told, Mapping) else {})
        except BaseException as error:  # also `sys.exit`: the push itself is done, and others are to be followed
            _log.exception("What follows the push of %s failed.", receipt.commit_url)
            followed = Followed(problem=f"The function that followed it failed: {type(error).__name__}: {error}")
        followed.remember(self._store.after(job))
        if followed.results:
            self._store.follow_up(job)  # only the worker commits: what comes next must know where the branch is
        else:
            self._store.done(job, followed.problem)
