"""Xet objects as clients make them, and the addresses that take them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

from hubs import Answer, ask

from perdure.hub.server import HubServer
from perdure.hub.xet.hashing import chunk_hash, hash_text, xorb_hash

SHARD_TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
SHARD_END = b"\xff" * 32 + bytes(16)


def pack(data: bytes, scheme: int = 0, packed: bytes | None = None, unpacked: int | None = None) -> bytes:
    """A chunk as it is in a xorb; it may lie about its size."""
    body = data if packed is None else packed
    size = len(data) if unpacked is None else unpacked
    return b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little") + body


def xorb_name(*chunks: bytes) -> str:
    return hash_text(xorb_hash([(chunk_hash(chunk), len(chunk)) for chunk in chunks]))


def _digest(name: str) -> bytes:
    return struct.pack("<4Q", *(int(name[i : i + 16], 16) for i in range(0, 64, 16)))


def shard_of(sha256: str | None, *terms: tuple[str, int, int, int], xorbs: tuple[str, ...] = ()) -> bytes:
    flags = 1 << 30 if sha256 else 0
    shard = SHARD_TAG + struct.pack("<2Q", 2, 0)
    shard += struct.pack("<32s2IQ", bytes(32), flags, len(terms), 0)
    for xorb, size, start, stop in terms:
        shard += struct.pack("<32s4I", _digest(xorb), 0, size, start, stop)
    if sha256:
        shard += struct.pack("<32s2Q", _digest(sha256), 0, 0)
    shard += SHARD_END
    for xorb in xorbs:
        shard += struct.pack("<32s4I", _digest(xorb), 0, 0, 0, 0)
    return shard + SHARD_END


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


Post = Callable[[str, bytes], Answer]


def poster(server: HubServer, token: str, repo: str) -> Post:
    ask(server.url, "POST", "/api/repos/create", {"name": repo.partition("/")[2]}, token=token)
    access = ask(server.url, "GET", f"/api/models/{repo}/xet-write-token/main", token=token).json()
    address = access["casUrl"].removeprefix(server.url)
    return lambda path, body: ask(server.url, "POST", f"{address}/v1/{path}", body, token=access["accessToken"])
