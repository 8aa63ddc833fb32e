"""Xorbs: up to 64 MiB of compressed chunks in one file. Reading them without trusting a byte of them.

Specification: https://huggingface.co/docs/xet/xorb
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lz4.frame
import numpy as np

from perdure.hub import limits
from perdure.hub.xet.hashing import chunk_hash, hash_text, xorb_hash

_HEADER: Final = 8
_FOOTER: Final = b"XETBLOB"

_STORED: Final = 0
_LZ4: Final = 1
_BYTE_GROUPED_LZ4: Final = 2


class XetError(ValueError):
    """A xorb or shard is not what the specification, or its own name, says."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    offset: int
    packed: int
    scheme: int
    unpacked: int


class Xorb:
    """A xorb file, opened by finding where its chunks are.

    Raises:
        XetError: The bytes are not a xorb.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks = _index(path)

    def size(self, start: int, stop: int) -> int:
        """Bytes of the uncompressed chunks `start` to `stop` (exclusive), of those that there are."""
        return sum(chunk.unpacked for chunk in self._chunks[start:stop])

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The uncompressed chunks `start` to `stop` (exclusive; to the end for None), one at a time.

        Raises:
            XetError: A chunk is damaged, or there are fewer than `stop`.
        """
        if stop is not None and stop > len(self._chunks):
            raise XetError(f"a xorb has {len(self._chunks)} chunks, not {stop}")
        with self._path.open("rb") as file:
            for i, chunk in enumerate(self._chunks[start:stop], start):
                file.seek(chunk.offset)
                yield _unpack(file.read(chunk.packed), chunk, i)


def _index(path: Path) -> list[_Chunk]:
    chunks: list[_Chunk] = []
    with path.open("rb") as file:
        while (header := file.read(_HEADER)) and not header.startswith(_FOOTER):
            if len(header) < _HEADER or header[0] != 0:
                raise XetError(f"chunk {len(chunks)} has no valid header")
            packed, unpacked = int.from_bytes(header[1:4], "little"), int.from_bytes(header[5:8], "little")
            if not 0 < unpacked <= limits.XORB_CHUNK or packed > 2 * limits.XORB_CHUNK:
                raise XetError(f"chunk {len(chunks)} is larger than a chunk may be")
            chunks.append(_Chunk(file.tell(), packed, header[4], unpacked))
            if len(chunks) > limits.XORB_CHUNKS:
                raise XetError(f"it has more than {limits.XORB_CHUNKS} chunks")
            file.seek(packed, os.SEEK_CUR)
    return chunks


def _unpack(data: bytes, chunk: _Chunk, index: int) -> bytes:
    if len(data) != chunk.packed:
        raise XetError(f"chunk {index} is cut off")
    if chunk.scheme == _STORED:
        plain = data
    elif chunk.scheme in {_LZ4, _BYTE_GROUPED_LZ4}:
        plain = _decompress(data, chunk.unpacked, index)
    else:
        raise XetError(f"chunk {index} has the unknown compression scheme {chunk.scheme}")
    if len(plain) != chunk.unpacked:
        raise XetError(f"chunk {index} does not have the length its header says")
    return _ungroup(plain) if chunk.scheme == _BYTE_GROUPED_LZ4 else plain


def _decompress(data: bytes, unpacked: int, index: int) -> bytes:
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:  # one byte more than promised is enough to see that a promise was broken, however large the bomb
        plain: bytes = decompressor.decompress(data, max_length=unpacked + 1)
    except RuntimeError as error:
        raise XetError(f"chunk {index} is not valid LZ4") from error
    return plain


def _ungroup(grouped: bytes) -> bytes:
    """Undo byte grouping: first all bytes at positions 0, 4, 8…, then 1, 5, 9…, and so on."""
    source = np.frombuffer(grouped, dtype=np.uint8)
    plain = np.empty_like(source)
    start = 0
    for offset in range(4):
        group = plain[offset::4]
        group[:] = source[start : start + len(group)]
        start += len(group)
    return plain.tobytes()


def check_xorb(path: Path, name: str) -> list[tuple[bytes, int]]:
    """Read a whole xorb and compare the hash over its chunks with its name.

    Returns:
        The hash and length of each chunk.

    Raises:
        XetError: It is damaged, too large when unpacked, or has another hash.
    """
    chunks = []
    total = 0
    for data in Xorb(path).read():
        total += len(data)
        if total > limits.XORB:
            raise XetError(f"it unpacks to more than {limits.XORB} bytes")
        chunks.append((chunk_hash(data), len(data)))
    if not chunks:
        raise XetError("it has no chunks")
    if hash_text(xorb_hash(chunks)) != name:
        raise XetError("its content has another hash than its name")
    return chunks
