"""The worker of an outbox as a process of its own, as the training process sees it.

A process, not a thread: a thread of low priority would hold the interpreter's lock while it waits for a processor,
and training with it (docs/design/0004); and a process can be ended at any moment, which the outbox survives anyhow.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from perdure.errors import SaveFailed
from perdure.publishing.outbox_worker import NOW

LOG = "worker.log"
_READER_SECONDS = 5.0  # it has nothing to do but to tell of what was changed last
_MOST_DEATHS = 5  # in a row, without a sign of work
# The modules are found where this process found them, and nothing in the current folder can take their place.
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from perdure.publishing.outbox_worker import main; main(sys.argv[1])"


class WorkerProcess:
    """At most one process that works on a run's outbox; it ends when this process does.

    Args:
        run: The run.
        folder: Its outbox.
        token: Told to it through its standard input, which nobody else can read.
        changed: Called on a thread of its own whenever it has changed a job.
    """

    def __init__(self, run: Path, folder: Path, token: str | None, changed: Callable[[], None]) -> None:
        self._run = run
        self._folder = folder
        self._token = token
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._owner = os.getpid()
        self._deaths = 0
        self._lock = threading.Lock()
        self._news = threading.Event()

    def wake(self, *, now: bool = False) -> None:
        """Have it look for jobs; start it where it does not run.

        Args:
            now: Also for those of a Hub that was away a moment ago.

        Raises:
            SaveFailed: It ends as soon as it is started, or cannot be started.
        """
        order = NOW + b"\n" if now else b"\n"
        with self._lock:
            if not self._running() or not self._say(order):
                self._start(order)

    def keep_alive(self) -> None:
        """Start it again where it died, while somebody waits for it."""
        with self._lock:
            if not self._running():
                self._start(NOW + b"\n")

    def wait(self, seconds: float) -> None:
        """Wait until it has changed something, or for `seconds`."""
        self._news.wait(seconds)
        self._news.clear()

    def ring(self) -> None:
        """End a `wait`."""
        self._news.set()

    def stop(self, timeout: float) -> None:
        """Let it end what it is at, but for no longer than `timeout` seconds."""
        with self._lock:
            process, reader = self._process, self._reader
            self._process = self._reader = None
            self._deaths = 0
        if process is None or os.getpid() != self._owner:
            return
        atexit.unregister(self._at_exit)
        with suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()  # which tells it to end
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what follows a push; all is queued again
            process.wait()
        if reader is not None and reader is not threading.current_thread():
            reader.join(_READER_SECONDS)

    def _running(self) -> bool:
        return self._process is not None and self._owner == os.getpid() and self._process.poll() is None

    def _say(self, words: bytes) -> bool:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(words)
            self._process.stdin.flush()
        except OSError:  # it died just now
            return False
        return True

    def _start(self, order: bytes) -> None:
        if self._deaths >= _MOST_DEATHS:
            raise SaveFailed(
                f"The worker of the outbox {self._folder} ends whenever it is started. Nothing was lost.",
                hint=f"What it said last is in {self._folder / LOG}",
            )
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()  # of one that died, or that is the parent's of this fork
        self._owner = os.getpid()
        self._deaths += 1
        command = [sys.executable, "-c", _BOOT, str(self._run), *(path or str(Path.cwd()) for path in sys.path)]
        try:
            with (self._folder / LOG).open("wb") as log, _terminal() as terminal:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=() if terminal is None else (terminal,),
                    start_new_session=True,  # Ctrl-C is for training: it may want to end well
                )
        except OSError as error:
            raise SaveFailed(
                f"The worker of the outbox {self._folder} could not be started: {error}. Nothing was lost."
            ) from error
        self._say(
            json.dumps({"token": self._token, "terminal": terminal, "parent": self._owner}).encode() + b"\n" + order
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="perdure-outbox", daemon=True)
        self._reader.start()
        atexit.register(self._at_exit)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for _ in process.stdout:
            self._deaths = 0
            self._changed()
            self._news.set()
        process.stdout.close()
        self._news.set()

    def _at_exit(self) -> None:
        self.stop(0)


@contextmanager
def _terminal() -> Iterator[int | None]:
    """Standard error once more, where it is a terminal: the worker shows its progress there while somebody waits."""
    try:
        descriptor = os.dup(sys.stderr.fileno()) if sys.stderr.isatty() else None
    except (AttributeError, OSError, ValueError):  # a notebook's, or none at all
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
