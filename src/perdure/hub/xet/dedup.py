"""What of an upload is here already: which chunks each xorb has, and which files were made of it.

Clients ask for few chunks, the first of a file and about one in a thousand of the others, and are told of all chunks
of all xorbs of the files that have it. They then send what is new alone, also from a machine that never uploaded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from perdure.hub import auth
from perdure.hub.db import Database
from perdure.hub.xet.hashing import hash_text

Chunk = tuple[bytes, int]
"""A chunk's hash, and its length in bytes."""

_ENTRY: Final = struct.Struct("<32sI")
_ASKED: Final = 1024
_MOST_XORBS: Final = 128
_MOST_CANDIDATES: Final = 4 * _MOST_XORBS


@dataclass(frozen=True, slots=True)
class Made:
    """What a file was made of: the chunks of each xorb as `may_use` has them, and its first chunk with its xorb."""

    oid: str
    uses: Mapping[str, int]
    first: tuple[str, str] | None


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

    def sent(self, xorb: str, caller: auth.Caller) -> None:
        """Record that `caller` sent the bytes of a stored xorb."""
        with self._db.write() as db:
            db.execute("INSERT OR IGNORE INTO xorb_senders VALUES (?, ?)", (xorb, caller.user.id))

    def was_sent(self, xorb: str, caller: auth.Caller) -> bool:
        """Whether `caller` once sent the bytes of a xorb."""
        return bool(self._db.rows("SELECT 1 FROM xorb_senders WHERE xorb = ? AND user_id = ?", xorb, caller.user.id))

    def may_use(self, xorb: str, chunks: int, caller: auth.Caller) -> bool:
        """Whether `caller` may make files of these chunks: they sent the xorb, or may download files that have them.

        Args:
            xorb: Its name.
            chunks: A bit for each chunk, the lowest for the first.
            caller: Who asks.

        A xorb holds chunks of many files, of which some may be nobody else's business.
        """
        if self.was_sent(xorb, caller):
            return True
        for packed, repo in self._db.users_of_xorb(xorb):
            if auth.may_read(caller, repo) and auth.may_download(caller, repo):
                chunks &= ~int.from_bytes(packed, "little")
            if not chunks:
                return True
        return False

    def unpacked(self, xorbs: Iterable[str]) -> int:
        """Bytes of the different chunks of each of these xorbs, uncompressed."""
        total = 0
        for xorb in xorbs:
            for (packed,) in self._db.rows("SELECT chunks FROM xorbs WHERE xorb = ?", xorb):
                total += sum(length for _, length in set(_ENTRY.iter_unpack(packed)))
        return total

    def use(self, files: Sequence[Made]) -> None:
        """Record what stored files were made of."""
        rows = [(xorb, file.oid, _pack(chunks)) for file in files for xorb, chunks in file.uses.items()]
        firsts = [file.first for file in files if file.first is not None]
        with self._db.write() as db:
            # another set of terms for the same file: the latest, whose sender may use all that it names
            db.executemany("INSERT OR REPLACE INTO xorb_uses (xorb, oid, chunks) VALUES (?, ?, ?)", rows)
            db.executemany("INSERT OR IGNORE INTO chunks VALUES (?, ?)", firsts)

    def find(self, chunk: str, caller: auth.Caller) -> list[tuple[str, list[Chunk]]]:
        """The xorbs of the files that have a chunk, and the chunks of each: those of which `caller` may use all."""
        found: list[tuple[str, list[Chunk]]] = []
        for xorb, packed in self._db.rows(_FIND, chunk, caller.user.id, _MOST_CANDIDATES):
            if self.may_use(xorb, (1 << len(packed) // _ENTRY.size) - 1, caller):
                found.append((str(xorb), list(_ENTRY.iter_unpack(packed))))
            if len(found) == _MOST_XORBS:
                break
        return found

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
            for table in ("xorbs", "xorb_uses", "xorb_senders", "chunks"):
                db.executemany(f"DELETE FROM {table} WHERE xorb = ?", names)


_FIND: Final = """
WITH seen AS (SELECT oid FROM chunks JOIN xorb_uses USING (xorb) WHERE chunk = ?)
SELECT DISTINCT xorbs.xorb, xorbs.chunks FROM xorbs JOIN xorb_uses USING (xorb)
WHERE oid IN (SELECT oid FROM seen)
ORDER BY xorbs.xorb IN (SELECT xorb FROM xorb_senders WHERE user_id = ?) DESC LIMIT ?
"""


def _pack(chunks: int) -> bytes:
    return chunks.to_bytes((chunks.bit_length() + 7) // 8, "little")


def _is_asked_for(digest: bytes) -> bool:
    """Whether clients ask for a chunk wherever it is in a file."""
    return int.from_bytes(digest[24:], "little") % _ASKED == 0
