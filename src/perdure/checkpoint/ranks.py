"""What each rank hands in to the one that writes: of the state, all that is not the same on every rank.

Modules and optimizers are replicas, which rank 0 saves. Of the rest (generators, data positions, objects of one's own)
each rank's is kept where it differs from rank 0's; the generators' always is, so that a checkpoint shows how many ranks
there were.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from perdure.checkpoint.background import must_block
from perdure.checkpoint.snapshot import FOLDER, Snapshot, with_parts
from perdure.distributed.group import Group
from perdure.errors import SaveFailed
from perdure.io.digest import as_text, digest_bytes
from perdure.model.tensors import as_bytes, check_storable, dtype_name, torch_dtype
from perdure.state.capture import Part, capture
from perdure.state.state import RNG, State

_RANK = re.compile(rf"{FOLDER}/rank-(\d{{5,}})/.+")
_LENGTH = struct.Struct("<Q")


def folder_of(rank: int) -> str:
    """Where in a checkpoint a rank's part of the training state is."""
    return f"{FOLDER}/rank-{rank:05}" if rank else FOLDER


def world_size(files: Iterable[str]) -> int:
    """How many ranks a checkpoint with these files was saved by."""
    return 1 + len({match[1] for path in files if (match := _RANK.fullmatch(path))})


def take_together(
    group: Group,
    agree: Callable[[Callable[[], Any]], list[Any]],
    state: State,
    take: Callable[[], Snapshot],
    blocking: bool,
) -> tuple[Snapshot | None, bool]:
    """Fix what a checkpoint is to hold, or nothing if that fails on any rank.

    Args:
        agree: The group's, or one that calls it.
        take: Fixes what rank 0 has.
        blocking: Whether training is to wait until all is written.

    Returns:
        What is to be written, on the rank that writes; and whether training must wait for it.
    """
    taken: list[Snapshot] = []
    packed: dict[str, bytes] = {}

    def take_own() -> tuple[bool, dict[str, str]]:
        if group.rank == 0:
            taken.append(take())
        if group.size > 1:
            packed.update({name: pack(part) for name, part in _own_parts(state, taken).items()})
        return blocking or must_block(state), {name: as_text(digest_bytes(data)) for name, data in packed.items()}

    said = agree(take_own)
    theirs = hand_in(group, packed, [digests for _, digests in said]) if group.size > 1 else {}
    return (with_parts(taken[0], theirs) if taken else None), any(blocks for blocks, _ in said)


def _own_parts(state: State, taken: list[Snapshot]) -> dict[str, Part]:
    """What may differ from rank to rank, by name: as it was taken, or taken now."""
    replicas = {name for name, _ in (*state.modules(), *state.optimizers())}
    return {
        name: taken[0].parts[f"{FOLDER}/{name}"] if taken else capture(name, component, {})
        for name, component in state.components.items()
        if name not in replicas
    }


def pack(part: Part) -> bytes:
    """A part as bytes, the same for equal parts."""
    check_storable(part.copied)
    shapes = [[name, dtype_name(name, tensor), list(tensor.shape)] for name, tensor in part.copied.items()]
    index = json.dumps({"name": part.name, "type": part.type, "document": part.document, "tensors": shapes}).encode()
    return b"".join([_LENGTH.pack(len(index)), index, *(as_bytes(tensor) for tensor in part.copied.values())])


def unpack(data: bytes) -> Part:
    """The inverse of `pack`."""
    begin = _LENGTH.size + _LENGTH.unpack(data[: _LENGTH.size])[0]
    index = json.loads(data[_LENGTH.size : begin])
    tensors: dict[str, torch.Tensor] = {}
    for name, dtype, shape in index["tensors"]:
        tensor = torch.empty(shape, dtype=torch_dtype(dtype))
        memory = as_bytes(tensor)
        memory[:] = data[begin : begin + len(memory)]
        begin += len(memory)
        tensors[name] = tensor
    return Part(name=index["name"], type=index["type"], document=index["document"], live={}, copied=tensors)


def hand_in(group: Group, packed: Mapping[str, bytes], said: list[dict[str, str]]) -> dict[str, Part]:
    """Bring what differs from rank 0's to rank 0.

    Args:
        packed: This rank's parts.
        said: Digests of each rank's parts.

    Returns:
        Path in the checkpoint, without ending → part; nothing elsewhere than on rank 0.
    """
    mine = {name: data for name, data in packed.items() if name == RNG or said[group.rank][name] != said[0].get(name)}
    bodies = b"".join(_LENGTH.pack(len(data)) + data for data in mine.values()) if group.rank else b""
    found: dict[str, Part] = {}
    for rank, received in enumerate(group.collect(bodies, error=SaveFailed)):
        begin = 0
        while begin < len(received):
            end = begin + _LENGTH.size + _LENGTH.unpack_from(received, begin)[0]
            part = unpack(received[begin + _LENGTH.size : end])
            found[f"{folder_of(rank)}/{part.name}"] = part
            begin = end
    return found


def of_rank(files: Iterable[str], rank: int) -> dict[str, str]:
    """Name of a component → the JSON document that a rank reads: its own, or rank 0's where there is none."""
    found: dict[str, str] = {}
    paths = [path for path in files if path.endswith(".json")]
    for folder in (FOLDER, folder_of(rank)):
        for path in paths:
            parent, _, name = path.rpartition("/")
            if parent == folder:
                found[name.removesuffix(".json")] = path
    return found


def is_of_rank(component: Any) -> bool:
    """Whether a component means nothing on another rank: generators, and places in data that ranks divide."""
    inner = getattr(component, "base_dataloader", component)
    return isinstance(inner, torch.utils.data.DataLoader)
