"""What of an upload is here already: which chunks each xorb has, and which files were made of it.

Clients ask for few chunks, the first of a file and about one in a thousand of the others, and are told of all chunks
of all xorbs of the files that have it. They then send what is new alone, also from a machine that never uploaded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from perdure.hub.db import Database, Repo
from perdure.hub.xet.hashing import hash_text

Chunk = tuple[bytes, int]
"""A chunk's hash, and its length in bytes."""

_ENTRY: Final = struct.Struct("<32sI")
_ASKED: Final = 1024
_MOST_XORBS: Final = 128


class Deduplication:
    """The tables of chunks and xorbs. Safe to use from any thread."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def knows(self, xorb: str) -> bool:
        """Whether the chunks of a xorb were recorded."""
        return bool(self._db.rows("SELECT 1 FROM xorbs WHERE xorb = ?", xorb))

    def add(self, xorb: str, chunks: Sequence[Chunk]) -> None:
        """Record what a stored xorb has."""
        asked = [hash_text(digest) for i, (digest, _) in enumerate(chunks) if i == 0 or _is_asked_for(digest)]
        packed = b"".join(_ENTRY.pack(*chunk) for chunk in chunks)
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO xorbs VALUES (?, ?)", (xorb, packed))
            db.executemany("INSERT OR IGNORE INTO chunks VALUES (?, ?)", [(chunk, xorb) for chunk in asked])

    def use(self, oid: str, xorbs: Iterable[str], first: tuple[str, str] | None) -> None:
        """Record which xorbs a stored file was made of, and its first chunk with the xorb that has it."""
        with self._db.write() as db:
            db.executemany("INSERT OR IGNORE INTO xorb_uses VALUES (?, ?)", [(xorb, oid) for xorb in xorbs])
            if first is not None:
                db.execute("INSERT OR IGNORE INTO chunks VALUES (?, ?)", first)

    def find(self, repo: Repo, chunk: str) -> list[tuple[str, list[Chunk]]]:
        """The xorbs of the files that have a chunk, and the chunks of each, as far as `repo` may know of them.

        Of what is in other repositories it may know what everybody may download: a xorb's name opens its content.
        """
        rows = self._db.rows(_FIND, chunk, repo.id, _MOST_XORBS)
        return [(str(xorb), list(_ENTRY.iter_unpack(packed))) for xorb, packed in rows]

    def uses(self) -> dict[str, set[str]]:
        """Xorb → the files that were made of it."""
        uses: dict[str, set[str]] = {}
        for xorb, oid in self._db.rows("SELECT xorb, oid FROM xorb_uses"):
            uses.setdefault(xorb, set()).add(oid)
        return uses

    def forget(self, xorbs: Iterable[str]) -> None:
        """Remove every record of xorbs that are to go."""
        names = [(xorb,) for xorb in xorbs]
        with self._db.write() as db:
            for table in ("xorbs", "xorb_uses", "chunks"):
                db.executemany(f"DELETE FROM {table} WHERE xorb = ?", names)


_FIND: Final = """
WITH seen AS (
    SELECT xorb_uses.oid FROM chunks JOIN xorb_uses USING (xorb) JOIN holdings ON holdings.oid = xorb_uses.oid
    JOIN repos ON repos.id = holdings.repo_id
    WHERE chunk = ? AND (repos.id = ? OR (NOT repos.private AND repos.gated = ''))
)
SELECT DISTINCT xorbs.xorb, xorbs.chunks FROM xorbs JOIN xorb_uses USING (xorb)
WHERE oid IN (SELECT oid FROM seen) LIMIT ?
"""


def _is_asked_for(digest: bytes) -> bool:
    """Whether clients ask for a chunk wherever it is in a file."""
    return int.from_bytes(digest[24:], "little") % _ASKED == 0
