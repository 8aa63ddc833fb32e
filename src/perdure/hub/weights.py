"""How many parameters of which dtype a repository's safetensors files hold, from their headers alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from perdure.errors import Corrupt
from perdure.format.header import read_header
from perdure.hub import limits
from perdure.hub.blobs import ContentStore
from perdure.hub.tree import Entry


def parameters(blobs: ContentStore, entries: Iterable[Entry]) -> dict[str, int]:
    """dtype → number of parameters over all `.safetensors` files at the root that the blob store has."""
    total: Counter[str] = Counter()
    for entry in entries:
        if entry.lfs and entry.path.endswith(".safetensors") and "/" not in entry.path:
            with suppress(OSError):  # what cannot be read now is asked again: only what was read is remembered
                total.update(_header_facts(blobs.path(entry.lfs.oid)))
    return dict(total)


@lru_cache(maxsize=1024)  # by content: what a digest names never changes
def _header_facts(path: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > limits.SAFETENSORS_HEADER:
            return {}
    try:
        header = read_header(path)
    except Corrupt:
        return {}  # no safetensors file, whatever its name says: no facts, and no error of the repository
    for tensor in header.tensors.values():
        counts[tensor.dtype] += math.prod(tensor.shape)
    return dict(counts)
