"""Cut runs of bytes into tasks for many threads, so that each digest chunk is one thread's from end to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from perdure.io.digest import CHUNK


@dataclass(frozen=True, slots=True)
class Piece:
    """One digest chunk of one extent: `nbytes` from byte `start` of the extent `extent` (its place in the list)."""

    extent: int
    start: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Task:
    """Pieces whose bytes follow one another in the file, from byte `offset` on; 16 MiB at most."""

    offset: int
    pieces: tuple[Piece, ...]

    @property
    def nbytes(self) -> int:
        """How many bytes all pieces are."""
        return sum(piece.nbytes for piece in self.pieces)


def plan(extents: Iterable[tuple[int, int]]) -> Iterator[Task]:
    """Tasks for extents given as (offset in the file, nbytes); small neighbours share a task.

    >>> [(task.offset, len(task.pieces)) for task in plan([(0, 10), (10, 0), (10, 5), (100, 2**24 + 1)])]
    [(0, 3), (100, 1), (16777316, 1)]
    """
    waiting: list[Piece] = []
    begin = end = 0
    for extent, (offset, nbytes) in enumerate(extents):
        for start in range(0, nbytes, CHUNK) if nbytes else (0,):
            piece = Piece(extent, start, min(CHUNK, nbytes - start))
            if waiting and (offset + start != end or end - begin + piece.nbytes > CHUNK):
                yield Task(begin, tuple(waiting))
                waiting = []
            if not waiting:
                begin = end = offset + start
            waiting.append(piece)
            end += piece.nbytes
    if waiting:
        yield Task(begin, tuple(waiting))
