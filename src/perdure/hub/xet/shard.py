"""Shards: which ranges of which xorbs make up a file.

Specification: https://huggingface.co/docs/xet/shard
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final

from perdure.hub import limits
from perdure.hub.xet.hashing import hash_bytes, hash_text
from perdure.hub.xet.xorb import XetError

_TAG: Final = b"HFRepoMetaData\x00" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_VERSION: Final = 2
_RECORD: Final = struct.Struct("<32s4I")
_FOOTER_SIZE: Final = 200
_END: Final = b"\xff" * 32
_HAS_VERIFICATION: Final = 1 << 31
_HAS_SHA256: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Term:
    """Chunks `start` to `stop` (exclusive) of a xorb, `size` bytes when unpacked."""

    xorb: str
    size: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class File:
    """A file as a shard describes it: its sha256 in hex, and the terms to join."""

    sha256: str
    terms: tuple[Term, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole file, as its terms add up."""
        return sum(term.size for term in self.terms)

    def uses(self) -> dict[str, int]:
        """The chunks that the terms name of each xorb: a bit for each, the lowest for the first."""
        uses: dict[str, int] = {}
        for term in self.terms:
            uses[term.xorb] = uses.get(term.xorb, 0) | ((1 << term.stop) - (1 << term.start))
        return uses


def read_files(file: IO[bytes]) -> Iterator[File]:
    """The files of a shard, one at a time.

    Raises:
        XetError: The bytes are not a shard, or a file in it has no sha256.
    """
    header = file.read(48)
    if len(header) < 48 or header[:32] != _TAG:
        raise XetError("it does not start as a shard does")
    if int.from_bytes(header[32:40], "little") != _VERSION:
        raise XetError("it has an unknown version")
    while True:
        digest, flags, count, *_ = _record(file)
        if digest == _END:
            return
        if count > limits.SHARD_TERMS:
            raise XetError("a file in it has too many terms")
        terms = tuple(_term(file) for _ in range(count))
        if flags & _HAS_VERIFICATION:
            for _ in range(count):
                _record(file)
        if not flags & _HAS_SHA256:
            raise XetError("a file in it has no sha256")
        yield File(sha256=hash_text(_record(file)[0]), terms=terms)


def read_xorbs(file: IO[bytes]) -> Iterator[str]:
    """The xorbs a shard says are new, once `read_files` has come to its end; a shard may stop before them.

    Raises:
        XetError: The bytes are not a shard.
    """
    while (data := file.read(_RECORD.size)) != b"":
        digest, _, count, *_ = _unpack(data)
        if digest == _END:
            return
        yield hash_text(digest)
        if count > limits.XORB_CHUNKS:
            raise XetError("a xorb in it has too many chunks")
        file.seek(count * _RECORD.size, os.SEEK_CUR)


def describe_xorbs(xorbs: Sequence[tuple[str, Sequence[tuple[bytes, int]]]], expires: int) -> bytes:
    """A shard without files, from which a client learns which chunks it need not send.

    Args:
        xorbs: Name of each xorb, and its chunks as (hash, bytes).
        expires: When clients are to forget it, in seconds since 1970.
    """
    parts = [_TAG, struct.pack("<2Q", _VERSION, _FOOTER_SIZE), _END + bytes(16)]
    xorbs_offset = 48 + 48
    for name, chunks in xorbs:
        size = sum(length for _, length in chunks)
        parts.append(_RECORD.pack(hash_bytes(name), 0, len(chunks), size, size))
        start = 0
        for digest, length in chunks:
            parts.append(struct.pack("<32s2IQ", digest, start, length, 0))
            start += length
    parts.append(_END + bytes(16))
    footer_offset = sum(map(len, parts))
    # the three lookup tables, which the specification calls reserved, are empty and begin where the xorbs end:
    # clients find that end by where the first begins
    tables = (footer_offset, 0) * 3
    parts.append(struct.pack("<9Q", 1, 48, xorbs_offset, *tables))
    parts.append(struct.pack("<32x2Q72xQ", int(time.time()), expires, footer_offset))
    return b"".join(parts)


def _term(file: IO[bytes]) -> Term:
    digest, _, size, start, stop = _record(file)
    if start >= stop:
        raise XetError("it names an empty range of chunks")
    if stop > limits.XORB_CHUNKS:
        raise XetError("it names chunks beyond the end of any xorb")
    return Term(hash_text(digest), size, start, stop)


def _record(file: IO[bytes]) -> tuple[bytes, int, int, int, int]:
    return _unpack(file.read(_RECORD.size))


def _unpack(data: bytes) -> tuple[bytes, int, int, int, int]:
    if len(data) < _RECORD.size:
        raise XetError("it is cut off")
    digest, a, b, c, d = _RECORD.unpack(data)
    return digest, a, b, c, d
