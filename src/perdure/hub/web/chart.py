"""Plots of one metric over steps, as numbers that a template draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 320
HEIGHT: Final = 132
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measurement: where it is drawn, what of, and its value."""

    x: float
    y: float
    label: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A metric's plot: series of points in the order of steps, and the ends of both axes."""

    name: str
    series: list[tuple[str, list[Point]]]
    low: float
    high: float
    first: float
    last: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM

    def path(self, points: Sequence[Point]) -> str:
        """The points as a polyline has them."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in points)


Sample = tuple[float, float, str]
"""A step, the value there, and the name of the revision."""


def plot(name: str, series: Mapping[str, Sequence[Sample]]) -> Chart | None:
    """The plot of a metric, or None when there are no two finite values that differ.

    >>> chart = plot("loss", {"main": [(100, 2.0, "a"), (200, 1.0, "b")]})
    >>> chart.path(chart.series[0][1])
    '48.0,12.0 308.0,112.0'
    """
    finite = {
        label: sorted(sample for sample in samples if math.isfinite(sample[1])) for label, samples in series.items()
    }
    samples = [sample for each in finite.values() for sample in each]
    if len({value for _, value, _ in samples}) < 2:
        return None
    steps, values = [sample[0] for sample in samples], [sample[1] for sample in samples]
    first, last, low, high = min(steps), max(steps), min(values), max(values)

    def place(sample: Sample) -> Point:
        step, value, label = sample
        return Point(
            x=_LEFT + _share(step, first, last) * (WIDTH - _LEFT - _RIGHT),
            y=_TOP + (1 - _share(value, low, high)) * (HEIGHT - _TOP - _BOTTOM),
            label=label,
            value=value,
        )

    drawn = [(label, [place(sample) for sample in each]) for label, each in finite.items() if each]
    return Chart(name=name, series=drawn, low=low, high=high, first=first, last=last)


def _share(value: float, low: float, high: float) -> float:
    """How far `value` is on the way from `low` to `high`; halved first, for their distance can be beyond a float."""
    span = high / 2 - low / 2
    return (value / 2 - low / 2) / span if span > 0 else 0.5
