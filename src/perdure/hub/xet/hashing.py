"""Xet's hashes: blake3 with a key for each purpose, and a tree over chunk hashes for a xorb.

Specification: https://huggingface.co/docs/xet/hashing
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from blake3 import blake3

_CHUNK_KEY: Final = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY: Final = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")

_BRANCHING: Final = 4
_MOST_CHILDREN: Final = 2 * _BRANCHING + 1


def chunk_hash(data: bytes) -> bytes:
    """The hash of one uncompressed chunk."""
    return blake3(data, key=_CHUNK_KEY).digest()


def hash_text(digest: bytes) -> str:
    """A hash as addresses spell it: four little-endian 64-bit numbers in hex.

    >>> hash_text(bytes(range(32)))[:16]
    '0706050403020100'
    """
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def hash_bytes(text: str) -> bytes:
    """A hash of which `hash_text` made `text`.

    >>> hash_bytes(hash_text(bytes(range(32)))) == bytes(range(32))
    True
    """
    return struct.pack("<4Q", *(int(text[i : i + 16], 16) for i in range(0, 64, 16)))


def xorb_hash(chunks: Sequence[tuple[bytes, int]]) -> bytes:
    """The root over a xorb's chunks, given as (hash, uncompressed length)."""
    level = list(chunks)
    while len(level) > 1:
        level = _parents(level)
    return level[0][0] if level else bytes(32)


def _parents(level: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    parents = []
    start = 0
    while start < len(level):
        stop = _end_of_group(level, start)
        group = level[start:stop]
        text = "".join(f"{hash_text(digest)} : {length}\n" for digest, length in group)
        digest = blake3(text.encode(), key=_NODE_KEY).digest()
        parents.append((digest, sum(length for _, length in group)))
        start = stop
    return parents


def _end_of_group(level: list[tuple[bytes, int]], start: int) -> int:
    """A group ends after a hash whose last number is a multiple of four, with 3 to 9 members where it can."""
    end = min(start + _MOST_CHILDREN, len(level))
    for i in range(start + 2, end):
        if level[i][0][24] % _BRANCHING == 0:  # the lowest byte of the last little-endian number
            return i + 1
    return end
