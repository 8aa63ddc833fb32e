"""What a run logged, as curves that a card may draw."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perdure.card.allowed import is_sayable
from perdure.card.numbers import plain
from perdure.card.training import LARGEST, MAX_POINTS, Point

_MOST_CURVES = 30
# What a log holds beside metrics of a step: the time, and what a run ends with.
_NO_CURVE = re.compile(r"step|epoch|total_flos|train_.*|.*(_runtime|_per_second|_preparation_time)")


def curves(log_history: Iterable[Mapping[Any, Any]]) -> dict[str, tuple[Point, ...]]:
    """Metric → its values by step, as they were logged: at most 500 of each, evenly spread, and all finite.

    >>> curves([{"step": 1, "loss": 2.0, "epoch": 0.5}, {"step": 2, "loss": 1.0}, {"step": 2, "eval_loss": 1.5}])
    {'loss': ((1, 2.0), (2, 1.0)), 'eval_loss': ((2, 1.5),)}
    """
    found: dict[str, dict[float, float]] = {}
    passed_over: set[Any] = set()
    for entry in log_history:
        step = plain(entry.get("step")) if isinstance(entry, Mapping) else None
        if step is None or not abs(step) <= LARGEST:
            continue
        for name, value in numbers(entry).items():
            if name not in found and name not in passed_over:
                is_curve = _NO_CURVE.fullmatch(name) is None and is_sayable(name)
                found.update({name: {}}) if is_curve else passed_over.add(name)
            if name in found and abs(value) <= LARGEST:
                found[name][step] = value  # logged again where a run was resumed
    found = {name: points for name, points in found.items() if points}
    first = sorted(found, key=lambda name: not (name.endswith("loss") or "reward" in name))[:_MOST_CURVES]
    return {name: _thinned(sorted(found[name].items())) for name in first}


def _thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """The first, the last, and of the others as many as there is room for."""
    if len(points) <= MAX_POINTS:
        return tuple(points)
    return tuple(points[round(n * (len(points) - 1) / (MAX_POINTS - 1))] for n in range(MAX_POINTS))


def numbers(metrics: Mapping[Any, Any]) -> dict[str, float]:
    """Those metrics that are numbers, as Python's own."""
    known = ((name, plain(value)) for name, value in metrics.items() if isinstance(name, str))
    return {name: value for name, value in known if value is not None}
