"""Measure rows that are compared with one another: interleaved rounds, medians and spread, peak memory."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class Row:
    """One thing that is measured.

    `run` does it, until it is done for good, and may return the seconds for which it kept its caller waiting.
    `before` and `after` are not timed.
    """

    name: str
    run: Callable[[], float | None]
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)
    blocked: list[float] = field(default_factory=list)
    extra_memory: int = 0


def arguments(description: str) -> argparse.Namespace:
    """What every benchmark takes on its command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", type=float, default=1.0, metavar="GB", help="bytes to move (default: 1)")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds, after one that is not (default: 7)")
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="a folder on the disk to measure (default: a new one in /tmp)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    parser.add_argument("--only", default="", metavar="REGEX", help="only rows whose name matches, and the limit")
    return parser.parse_args()


def chosen(rows: Sequence[Row], pattern: str) -> list[Row]:
    """The first row, which is the limit, and those that `pattern` matches."""
    return [row for index, row in enumerate(rows) if index == 0 or re.search(pattern, row.name)]


def measure(rows: Sequence[Row], rounds: int) -> None:
    """Run all rows in every round, in another order each time; the first round warms up, and counts for memory only."""
    for number in range(rounds + 1):
        for row in random.sample(rows, len(rows)):
            print(f"\r\033[K{number}/{rounds} {row.name}", end="", file=sys.stderr, flush=True)
            row.before()
            resident = settled_memory()
            start = time.perf_counter()
            blocked = row.run()
            seconds = time.perf_counter() - start
            row.extra_memory = max(row.extra_memory, peak_memory() - resident)
            row.after()
            if number:
                row.seconds.append(seconds)
                row.blocked.append(seconds if blocked is None else blocked)
    print("\r\033[K", end="", file=sys.stderr)


def settled_memory() -> int:
    """Give back what is free, begin the peak anew, and return the bytes that are resident."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_memory() -> int:
    """The most bytes that were resident since `settled_memory`."""
    return _status("VmHWM")


def _status(name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) * 1024 if match else 0


def table(title: str, rows: Sequence[Row], nbytes: int) -> str:
    """The rows as text, the first of them being the limit."""
    width = max(len(row.name) for row in rows)
    lines = [f"{title:{width}}   GB/s    (min - max)   × limit  caller waits  extra memory"]
    for row in rows:
        fast, slow = nbytes / min(row.seconds) / 1e9, nbytes / max(row.seconds) / 1e9
        lines.append(
            f"{row.name:{width}}  {_rate(row, nbytes):5.2f}  ({slow:5.2f} -{fast:5.2f})   {_ratio(row, rows):5.2f}"
            f"   {statistics.median(row.blocked) * 1e3:8.0f} ms  {row.extra_memory / 2**20:8.0f} MiB"
        )
    return "\n".join(lines)


def document(rows: Sequence[Row], nbytes: int) -> list[dict[str, Any]]:
    """The rows for JSON."""
    return [
        {
            "name": row.name,
            "gb_per_s": _rate(row, nbytes),
            "of_limit": _ratio(row, rows),
            "seconds": row.seconds,
            "seconds_blocked": row.blocked,
            "extra_memory_bytes": row.extra_memory,
        }
        for row in rows
    ]


def write_json(path: Path, **figures: Any) -> None:
    """Write figures, and what machine and which libraries they were measured with."""
    libraries = ("perdure", "torch", "safetensors", "transformers", "blake3")
    machine = {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }
    path.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n")


def _rate(row: Row, nbytes: int) -> float:
    return nbytes / statistics.median(row.seconds) / 1e9


def _ratio(row: Row, rows: Sequence[Row]) -> float:
    return statistics.median(rows[0].seconds) / statistics.median(row.seconds)
