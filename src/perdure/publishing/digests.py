"""Is a file what a Hub says that it is? By the SHA-256 of large ones, and the git blob id of all others."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from perdure.publishing.remote import RemoteFile

_BLOCK = 2**20


class Digest:
    """Digests the bytes of one file as its Hub does.

    >>> digest = Digest(RemoteFile(size=0, sha256=None, blob_id="e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"))
    >>> digest.matches
    True
    """

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
    """Whether what lies at `path` is this file, to the byte."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
            return False
        digest = Digest(file)
        with path.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    except OSError:
        return False
    return digest.matches
