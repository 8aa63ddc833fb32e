"""Xorbs: up to 64 MiB of compressed chunks in one file. Reading them without trusting a byte of them.

Specification: https://huggingface.co/docs/xet/xorb
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Final

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


def read_chunks(file: IO[bytes], start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The uncompressed chunks `start` to `stop` (exclusive; to the end for None) of a xorb.

    At most one chunk is in memory at a time.

    Raises:
        XetError: The bytes are not a xorb, or it has fewer than `stop` chunks.
    """
    index = 0
    while stop is None or index < stop:
        header = file.read(_HEADER)
        if not header or header.startswith(_FOOTER):
            break
        if len(header) < _HEADER or header[0] != 0:
            raise XetError(f"chunk {index} has no valid header")
        packed, scheme = int.from_bytes(header[1:4], "little"), header[4]
        unpacked = int.from_bytes(header[5:8], "little")
        if not 0 < unpacked <= limits.XORB_CHUNK or packed > 2 * limits.XORB_CHUNK or index >= limits.XORB_CHUNKS:
            raise XetError(f"chunk {index} is larger than a chunk may be, or one too many")
        if index < start:
            file.seek(packed, 1)
        else:
            yield _unpack(file.read(packed), packed, scheme, unpacked, index)
        index += 1
    if stop is not None and index < stop:
        raise XetError(f"it has {index} chunks, not {stop}")


def _unpack(data: bytes, packed: int, scheme: int, unpacked: int, index: int) -> bytes:
    if len(data) != packed:
        raise XetError(f"chunk {index} is cut off")
    if scheme == _STORED:
        plain = data
    elif scheme in {_LZ4, _BYTE_GROUPED_LZ4}:
        plain = _decompress(data, unpacked, index)
    else:
        raise XetError(f"chunk {index} has the unknown compression scheme {scheme}")
    if len(plain) != unpacked:
        raise XetError(f"chunk {index} has not the length its header says")
    return _ungroup(plain) if scheme == _BYTE_GROUPED_LZ4 else plain


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


def check_xorb(file: IO[bytes], name: str) -> None:
    """Read a whole xorb and compare the hash over its chunks with its name.

    Raises:
        XetError: It is damaged, too large when unpacked, or has another hash.
    """
    chunks = []
    total = 0
    for data in read_chunks(file):
        total += len(data)
        if total > limits.XORB:
            raise XetError(f"it unpacks to more than {limits.XORB} bytes")
        chunks.append((chunk_hash(data), len(data)))
    if not chunks:
        raise XetError("it has no chunks")
    if hash_text(xorb_hash(chunks)) != name:
        raise XetError("its content has another hash than its name")
