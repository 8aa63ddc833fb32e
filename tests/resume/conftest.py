from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Runs:
    """Training runs in processes of their own."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "training.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(self, folder: Path, report: Path, *, kill_when: Callable[[], bool] | None = None, **options: Any) -> bool:
        """One run to its end, or until `kill_when` says to kill it; whether it came to its end."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"folder": str(folder), "report": str(report), **options}) + "\n")
        self._server.stdin.flush()
        child = int(self._server.stdout.readline())
        end = report.with_suffix(".end")
        while kill_when is not None and not end.exists():
            if kill_when():
                os.kill(child, signal.SIGKILL)
                break
            time.sleep(0.0005)
        status = int(self._server.stdout.readline())
        assert status in (0, signal.SIGKILL), "the run itself failed"
        return status == 0

    def close(self) -> None:
        with self._server:
            assert self._server.stdin is not None
            self._server.stdin.close()


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.close()
