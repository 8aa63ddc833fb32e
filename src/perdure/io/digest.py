"""Digests of any length of bytes, made of 16 MiB chunks so that one file can be hashed by many threads.

The rule, in full: up to 16 MiB, the digest is plain BLAKE3 (what `b3sum` prints). Beyond, the bytes are cut into
chunks of 16 MiB, each is hashed with BLAKE3, and the digest is BLAKE3 in key-derivation mode, with the context
below, over the 32-byte chunk digests in order. The context keeps a short file from ever having a long one's digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from blake3 import blake3

CHUNK = 16 * 2**20
_CONTEXT = "perdure 2026-11 tree digest"
_PREFIX = "blake3:"


class Hasher:
    """Digests bytes that arrive in pieces of any size.

    >>> hasher = Hasher()
    >>> hasher.update(b"ab"); hasher.update(b"c")
    >>> hasher.hexdigest()
    'blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85'
    """

    def __init__(self) -> None:
        self._chunk = blake3()
        self._filled = 0
        self._done: list[bytes] = []

    def update(self, data: bytes | memoryview) -> None:
        """Add `data` (a contiguous buffer of bytes) to what is digested."""
        view = memoryview(data).cast("B")
        while len(view):
            if self._filled == CHUNK:
                self._done.append(self._chunk.digest())
                self._chunk, self._filled = blake3(), 0
            piece = view[: CHUNK - self._filled]
            self._chunk.update(piece)
            self._filled += len(piece)
            view = view[len(piece) :]

    def digest(self) -> bytes:
        """The 32 bytes of the digest of everything so far."""
        return of_chunks([*self._done, self._chunk.digest()])

    def hexdigest(self) -> str:
        """The digest as it stands in a manifest."""
        return as_text(self.digest())


def of_chunks(digests: Sequence[bytes]) -> bytes:
    """The digest of bytes whose chunks, 16 MiB each but for the last, have these digests."""
    return digests[0] if len(digests) == 1 else combine(digests)


def combine(digests: Iterable[bytes]) -> bytes:
    """One digest over many, in order: of a long file's chunks, or of the parts that a file is made of."""
    root = blake3(derive_key_context=_CONTEXT)
    for digest in digests:
        root.update(digest)
    return root.digest()


def as_text(digest: bytes) -> str:
    """32 bytes as they stand in a manifest: `blake3:` and 64 hexadecimal digits."""
    return _PREFIX + digest.hex()


def as_bytes(text: str) -> bytes:
    """The inverse of `as_text`; `ValueError` when `text` is not such a digest."""
    digest = bytes.fromhex(text.removeprefix(_PREFIX)) if text.startswith(_PREFIX) else b""
    if len(digest) != 32 or text != as_text(digest):
        raise ValueError(f"not a BLAKE3 digest: {text[:80]!r}")
    return digest


def digest_bytes(data: bytes | memoryview) -> bytes:
    """The digest of bytes at hand."""
    hasher = Hasher()
    hasher.update(data)
    return hasher.digest()


def digest_file(path: Path) -> tuple[int, bytes]:
    """Size in bytes and digest of a file, read in chunks: memory stays at one chunk."""
    hasher, size = Hasher(), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
            size += len(chunk)
    return size, hasher.digest()
