"""A small chart of numbers in text."""

from __future__ import annotations

from collections.abc import Collection, Sequence

_ROWS = 8
_COLUMNS = 64


def chart(points: Sequence[tuple[float, float]], *, marked: Collection[tuple[float, float]] = ()) -> list[str]:
    """Lines that show y over x: `•` for each point, `★` for those that are marked.

    >>> print("\\n".join(chart([(0, 3.0), (50, 1.0), (100, 2.0)], marked=[(50, 1.0)])))  # doctest: +ELLIPSIS
         3 ┤•
    ...
         1 ┤                                ★
           └────────────────────────────────────────────────────────────────
            0                                                            100
    """
    if not points:
        return []
    xs, ys = [x for x, _ in points], [y for _, y in points]
    grid = [[" "] * _COLUMNS for _ in range(_ROWS)]
    for x, y in sorted(points, key=lambda point: point in marked):
        row = round(_place(max(ys) - y, max(ys) - min(ys)) * (_ROWS - 1))
        grid[row][round(_place(x - min(xs), max(xs) - min(xs)) * (_COLUMNS - 1))] = "★" if (x, y) in marked else "•"
    labels = {0: f"{max(ys):.4g}", _ROWS - 1: f"{min(ys):.4g}"}
    lines = [f"{labels.get(row, ''):>6} ┤{''.join(cells)}".rstrip() for row, cells in enumerate(grid)]
    first, last = f"{min(xs):g}", f"{max(xs):g}"
    return [*lines, " " * 7 + "└" + "─" * _COLUMNS, " " * 8 + first + last.rjust(_COLUMNS - len(first))]


def _place(value: float, span: float) -> float:
    return value / span if span else 0.0
