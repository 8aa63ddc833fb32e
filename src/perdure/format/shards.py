"""Which tensor goes into which file, and the index that says so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perdure.errors import InvalidInput

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One tensor to place. Tensors with the same `storage` (views of one memory) stay in one shard."""

    name: str
    nbytes: int
    storage: object = None


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """File name → tensor names in order; `total_size` as the index states it, in bytes."""

    files: Mapping[str, Sequence[str]]
    total_size: int

    @property
    def is_sharded(self) -> bool:
        return len(self.files) > 1


def parse_size(size: int | str) -> int:
    """Bytes in `size`: an int, or "5GB", "500MB" (powers of ten), "2GiB" (powers of two).

    >>> parse_size("5GB"), parse_size("2GiB"), parse_size(123)
    (5000000000, 2147483648, 123)
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
        unit = _UNITS.get(match[2].upper()) if match else None
        number = int(float(match[1]) * unit) if match and unit is not None else 0
    else:
        number = size if type(size) is int else 0
    if number <= 0:
        raise InvalidInput(
            f"max_shard_size={size!r} is not a size.",
            hint='Use a number of bytes, or text such as "5GB" or "500MB".',
        )
    return number


def plan_shards(items: Sequence[Item], max_shard_size: int, weights_name: str) -> ShardPlan:
    """Fill shards in the order of `items`, opening a new one when the next tensor would pass the limit.

    A tensor larger than the limit gets a shard to itself. One shard keeps `weights_name`; several are numbered
    `…-00001-of-0000N…`.

    >>> plan_shards([Item("a", 6), Item("b", 3), Item("c", 12), Item("d", 1)], 10, "model.safetensors").files
    {'model-00001-of-00002.safetensors': ['c'], 'model-00002-of-00002.safetensors': ['a', 'b', 'd']}
    """
    full: list[list[str]] = []
    current: list[str] = []
    filled = total = 0
    home: dict[object, list[str]] = {}
    for item in items:
        if item.storage is not None and item.storage in home:
            home[item.storage].append(item.name)
            continue
        if item.nbytes > max_shard_size:
            shard = [item.name]
            full.append(shard)
        else:
            if filled + item.nbytes > max_shard_size:
                full.append(current)
                current, filled = [], 0
            shard = current
            shard.append(item.name)
            filled += item.nbytes
        total += item.nbytes
        if item.storage is not None:
            home[item.storage] = shard
    if current or not full:
        full.append(current)
    if len(full) == 1:
        return ShardPlan({weights_name: full[0]}, total)
    stem, _, suffix = weights_name.rpartition(".")
    names = [f"{stem}-{number:05d}-of-{len(full):05d}.{suffix}" for number in range(1, len(full) + 1)]
    return ShardPlan(dict(zip(names, full, strict=True)), total)


def encode_index(plan: ShardPlan, total_parameters: int) -> bytes:
    """The index file that goes beside several shards."""
    weight_map = {name: file for file, names in plan.files.items() for name in names}
    document = {
        "metadata": {"total_parameters": total_parameters, "total_size": plan.total_size},
        "weight_map": weight_map,
    }
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
