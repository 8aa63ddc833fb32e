"""The process between a worker and a command that follows a push: it bounds what the command prints, and ends it.

The command is ended with all that it started, at its limit and once the worker is gone, however that died: the worker
holds the other end of standard input. Run by its path, with no more than the standard library, to start at once.

Both are in process groups, not in sessions, of their own: a new session would weigh as much as training does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_GRACE_SECONDS = 10.0
BROKEN_OFF = "broken off"
LIMIT = "limit"
_KEPT = 2**19  # bytes of the beginning of the output, and of its end
_BLOCK = 2**14


def main(limit: float, output: Path, words: list[str]) -> dict[str, object]:
    """Run a command line to its end.

    Returns:
        `code`: what it ended with, where it ended by itself; else `why`: `BROKEN_OFF`, `LIMIT`, or an error.
    """
    os.setpgid(0, 0)  # the worker may be killed with its group
    with output.open("wb") as file:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                preexec_fn=os.setpgrp,  # noqa: PLW1509 - no thread runs yet
            )
        except OSError as error:
            return {"why": str(error)}
        assert process.stdout is not None
        printed = threading.Thread(target=_keep, args=(process.stdout, file), daemon=True)
        printed.start()
        try:
            return _wait(process, limit)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            printed.join(_GRACE_SECONDS)  # a process that left the group may have the pipe's other end for ever


def _wait(process: subprocess.Popen[bytes], limit: float) -> dict[str, object]:
    over, gone = threading.Event(), threading.Event()

    def end_with_the_worker() -> None:
        os.read(0, 1)
        gone.set()
        over.set()

    def end_by_itself() -> None:
        process.wait()
        over.set()

    for watch in (end_with_the_worker, end_by_itself):
        threading.Thread(target=watch, daemon=True).start()
    if over.wait(limit) and not gone.is_set():
        return {"code": process.returncode}
    if not gone.is_set():
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # so that it can end well
        over.wait(_GRACE_SECONDS)
    return {"why": BROKEN_OFF if gone.is_set() else LIMIT}


def _keep(printed: BinaryIO, file: BinaryIO) -> None:
    """Write the beginning of an output at once, and its end when it is known."""
    written, left_out, held = 0, 0, 0
    end: deque[bytes] = deque()
    while block := os.read(printed.fileno(), _BLOCK):
        head = block[: _KEPT - written]
        file.write(head)
        file.flush()
        written += len(head)
        end.append(block[len(head) :])
        held += len(end[-1])
        while held - len(end[0]) >= _KEPT:
            gone = len(end.popleft())
            held, left_out = held - gone, left_out + gone
    if left_out:
        file.write(f"\n… {left_out} bytes are left out …\n".encode())
    file.write(b"".join(end))
    file.flush()


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])), flush=True)
    os._exit(0)  # whatever still reads or waits
