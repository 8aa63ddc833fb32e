"""How many parameters of which dtype a repository's safetensors files hold, from their headers alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import lru_cache
from pathlib import Path

from perdure.hub import limits
from perdure.hub.blobs import ContentStore
from perdure.hub.tree import Entry


def parameters(blobs: ContentStore, entries: list[Entry]) -> dict[str, int]:
    """dtype → number of parameters over all `.safetensors` files at the root that the blob store has."""
    total: Counter[str] = Counter()
    for entry in entries:
        if entry.lfs and entry.path.endswith(".safetensors") and "/" not in entry.path:
            total.update(_header_facts(blobs.path(entry.lfs.oid)))
    return dict(total)


@lru_cache(maxsize=1024)  # by content: what a digest names never changes
def _header_facts(path: Path) -> dict[str, int]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= limits.SAFETENSORS_HEADER else {}
        counts: Counter[str] = Counter()
        for name, tensor in header.items():
            if name != "__metadata__":
                counts[str(tensor["dtype"])] += math.prod(int(n) for n in tensor["shape"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # not a safetensors file, whatever its name says: no facts, and no error of the repository
    return dict(counts)
