"""Numbers as a card keeps them: Python's own, of a size that every reader takes."""

from __future__ import annotations

import math
from typing import Any

LIMIT = 2**64  # of whole numbers; a seed may be all below it


def plain(value: Any) -> int | float | None:
    """A number of Python's, of NumPy's or a tensor of one element; None for anything else, and for what is too large.

    >>> plain(3), plain(0.5), plain(True), plain("3"), plain(10**400)
    (3, 0.5, None, None, None)
    """
    if not isinstance(value, (bool, int, float, str)) and callable(getattr(value, "item", None)):
        try:
            value = value.item()
        except Exception:  # more than one element, or on a device that does not answer
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        return float(value)
    return int(value) if abs(value) < LIMIT else None


def amount(value: Any) -> int | float | None:
    """A finite number that is not below zero; None for anything else.

    >>> amount(3), amount(-1), amount(float("nan")), amount(float("inf"))
    (3, None, None, None)
    """
    found = plain(value)
    return found if found is not None and found >= 0 and math.isfinite(found) else None
