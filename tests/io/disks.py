"""Bytes to move, and a disk that is not handed any requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from perdure.io.digest import CHUNK
from perdure.io.direct import ReadExtent, copy, read
from perdure.io.disk import Disk
from perdure.io.workers import SLAB


class Waiting(Disk):
    """Hands no writes to the kernel: each thread waits for its own."""

    queues = False


DATA = np.random.default_rng(0).integers(0, 256, CHUNK + SLAB, dtype=np.uint8).data


def some(sizes: Sequence[int]) -> list[memoryview]:
    """Bytes of each size, different ones each."""
    return [DATA[7 * index : 7 * index + size] for index, size in enumerate(sizes)]


def check_file(path: Path, parts: Sequence[memoryview]) -> None:
    assert path.read_bytes() == b"".join(parts)


def read_back(path: Path, sizes: Sequence[int], disk: Disk | None = None) -> tuple[list[bytearray], tuple[bytes, ...]]:
    outs = [bytearray(size) for size in sizes]
    extents, offset = [], 0
    for out in outs:
        extents.append(ReadExtent(offset, len(out), into(out)))
        offset += len(out)
    return outs, read(path, extents, disk=disk or Disk())


def into(out: bytearray) -> Callable[[int, memoryview], None]:
    return lambda start, data: copy(memoryview(out)[start : start + len(data)], data)
