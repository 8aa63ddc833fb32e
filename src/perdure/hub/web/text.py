"""Numbers and moments as people read them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

_SIZES: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_COUNTS: Final = ("", "K", "M", "B", "T")
_SPANS: Final = ((31_557_600, "year"), (2_629_800, "month"), (86_400, "day"), (3_600, "hour"), (60, "minute"))


def size(nbytes: float) -> str:
    """Bytes in powers of ten.

    >>> size(999), size(12_345), size(5_000_000_000)
    ('999 B', '12.3 kB', '5 GB')
    """
    return _scaled(nbytes, _SIZES, " ")


def count(number: float) -> str:
    """A number of things, as model sizes are spoken of.

    >>> count(512), count(1_240_000_000)
    ('512', '1.24B')
    """
    return _scaled(number, _COUNTS, "")


def _scaled(number: float, units: tuple[str, ...], space: str) -> str:
    for unit in units:
        if number < 999.5 or unit == units[-1]:
            break
        number /= 1000
    shown = f"{number:.0f}" if number >= 999.5 else f"{number:.3g}"
    return f"{shown}{space}{unit}".rstrip()


def metric(value: float) -> str:
    """A measured value with four significant digits.

    >>> metric(0.123456), metric(2.0), metric(float("nan")), metric(123456.7)
    ('0.1235', '2', 'nan', '123,457')
    """
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.4g}"


def ago(seconds: float, now: float) -> str:
    """How long before `now` something was; both in seconds since 1970.

    >>> ago(0, 30), ago(0, 7_200), ago(0, 86_400)
    ('just now', '2 hours ago', '1 day ago')
    """
    for span, name in _SPANS:
        number = int((now - seconds) // span)
        if number >= 1:
            return f"{number} {name}{'s' if number > 1 else ''} ago"
    return "just now"


def moment(seconds: float, *, machine: bool = False) -> str:
    """A moment in UTC, for people or for a `datetime` attribute.

    >>> moment(0), moment(0, machine=True)
    ('1970-01-01 00:00 UTC', '1970-01-01T00:00:00Z')
    """
    try:
        when = datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):  # a commit may claim any
        return "" if machine else "at an impossible time"
    return when.strftime("%Y-%m-%dT%H:%M:%SZ" if machine else "%Y-%m-%d %H:%M UTC")


def seconds(timestamp: str) -> float:
    """The seconds since 1970 of a moment as the protocol writes it.

    >>> seconds("1970-01-01T00:01:00.000Z")
    60.0
    """
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def decode(data: bytes) -> str | None:
    """`data` as text, or None when it is something else."""
    if b"\0" in data[:8192]:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
