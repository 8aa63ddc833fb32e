"""Is a file what a Hub says that it is? By the SHA-256 of large ones, and the git blob id of all others."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from perdure.publishing.selection import Content, opened, size_of

_BLOCK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of the remote tree: size in bytes, and its SHA-256 (large files) or git blob id (all others)."""

    size: int
    sha256: str | None
    blob_id: str

    def matches(self, content: Content) -> bool:
        """Whether a file on this disk, or in memory, is this one to the byte.

        >>> RemoteFile(size=0, sha256=None, blob_id="e69de29bb2d1d6434b8b29ae775ad8c2e48c5391").matches(b"")
        True
        """
        if size_of(content) != self.size:
            return False
        digest = Digest(self)
        with opened(content) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.matches


class Digest:
    """Digests the bytes of one file as its Hub does, while they come."""

    def __init__(self, file: RemoteFile) -> None:
        self._expected = file.sha256 or file.blob_id
        self._hash = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Add `data` to what is digested."""
        self._hash.update(data)

    @property
    def matches(self) -> bool:
        """Whether everything so far is the file."""
        return self._hash.hexdigest() == self._expected


def is_same(path: Path, file: RemoteFile) -> bool:
    """Whether what lies at `path` itself, no link, is this file."""
    try:
        return stat.S_ISREG(path.lstat().st_mode) and file.matches(path)
    except OSError:
        return False
