"""Divide what a push changes into commits that a Hub takes in one request each. Pure.

A client sends large files before the commit, which then only names them. What is left to bound is the number of a
commit's operations, each of which the Hub checks while the client waits for a minute at most, and the bytes of the
small files, which travel within the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.format.names import holds_weights
from perdure.publishing.plan import Plan

_INLINE = 10 * 2**20  # bytes; what is larger, a Hub has sent beforehand


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What fits into one commit: operations, and bytes that may travel within it.

    The client's own upload of large folders ends at 1,000 files a commit; embedded hubs take far more.
    """

    operations: int = 1000
    nbytes: int = 100_000_000


MOST = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one commit changes."""

    add: tuple[str, ...]
    delete: tuple[str, ...]


def divide(plan: Plan, limits: Limits) -> tuple[Part, ...]:
    """The commits that a plan needs, in order: one, where it fits.

    >>> plan = Plan(add=("a", "b", "c"), change=(), delete=("d",), keep=(), sizes={"a": 1, "b": 2, "c": 3, "d": 9})
    >>> [(part.add, part.delete) for part in divide(plan, Limits(operations=2))]
    [(('a', 'b'), ()), (('c',), ('d',))]
    """
    chunks: list[list[str]] = [[]]
    room = limits.nbytes
    for path in (*plan.send, *plan.delete):
        inline = _inline(path, plan.sizes[path]) if path not in plan.delete else 0
        if chunks[-1] and (len(chunks[-1]) == limits.operations or inline > room):
            chunks.append([])
            room = limits.nbytes
        chunks[-1].append(path)
        room -= inline
    gone = frozenset(plan.delete)
    return tuple(
        Part(
            add=tuple(path for path in chunk if path not in gone), delete=tuple(path for path in chunk if path in gone)
        )
        for chunk in chunks
    )


def _inline(path: str, size: int) -> int:
    return size if size <= _INLINE and (path.endswith(".json") or not holds_weights(path)) else 0
