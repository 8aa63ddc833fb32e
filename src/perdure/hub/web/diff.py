"""What changed in a text, line by line, within bounds: a commit page must cost little, whatever was committed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_CONTEXT: Final = 3
_LINE: Final = 2000
"""Characters shown of one line."""

CELLS: Final = 1_000_000
"""Pairs of lines that may be compared for one file; above, what was is shown first and what is after it."""

LINES: Final = 1000
"""Lines shown of one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a diff: `kind` is `+`, `-`, a space, or `@` where unchanged lines are left out."""

    kind: str
    text: str = ""
    old: int | None = None
    new: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """The lines to show, how many were added and removed in all, and whether some are not shown."""

    lines: list[Line]
    added: int
    removed: int
    cut: bool


def compare(old: str, new: str) -> Diff:
    """The difference between two texts.

    >>> [line.kind + line.text for line in compare("a\\nb\\n", "a\\nc\\n").lines]
    [' a', '-b', '+c']
    """
    before, after = old.splitlines(), new.splitlines()
    lines: list[Line] = []
    added = removed = 0
    last = (0, 0)
    for tag, *span in _changes(before, after):
        i1, i2, j1, j2 = span
        if tag == "equal":
            continue
        added, removed = added + j2 - j1, removed + i2 - i1
        if len(lines) <= LINES:
            lines += _between(before, last, (i1, j1), first=last == (0, 0))
            lines += [Line(kind="-", text=before[i][:_LINE], old=i + 1) for i in range(i1, min(i2, i1 + LINES))]
            lines += [Line(kind="+", text=after[j][:_LINE], new=j + 1) for j in range(j1, min(j2, j1 + LINES))]
        last = (i2, j2)
    if added or removed:
        lines += _between(before, last, (len(before), len(after)), last=True)
    elif old != new:
        lines = [Line(kind="@", text="Only the ends of lines changed.")]
    return Diff(lines=lines[:LINES], added=added, removed=removed, cut=len(lines) > LINES)


def _changes(before: list[str], after: list[str]) -> Iterator[tuple[str, int, int, int, int]]:
    head = 0
    shortest = min(len(before), len(after))
    while head < shortest and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shortest - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    olds, news = before[head : len(before) - tail], after[head : len(after) - tail]
    if len(olds) * len(news) > CELLS:
        yield "replace", head, len(before) - tail, head, len(after) - tail
        return
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, olds, news).get_opcodes():
        yield tag, head + i1, head + i2, head + j1, head + j2


def _between(
    before: list[str], start: tuple[int, int], stop: tuple[int, int], *, first: bool = False, last: bool = False
) -> list[Line]:
    """Unchanged lines around changes, with a mark where some are left out."""
    length = stop[0] - start[0]
    head = 0 if first else min(_CONTEXT, length)
    tail = 0 if last else min(_CONTEXT, length - head)
    shown = [*range(head), *range(length - tail, length)]
    lines = [
        Line(kind=" ", text=before[start[0] + n][:_LINE], old=start[0] + n + 1, new=start[1] + n + 1) for n in shown
    ]
    if length > head + tail and not last:
        number = length - head - tail
        lines.insert(head, Line(kind="@", text=f"{number} unchanged line{'s' if number > 1 else ''}"))
    return lines
