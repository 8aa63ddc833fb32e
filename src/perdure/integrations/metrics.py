"""A run's metrics, from the Trainer and in the files that keep them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perdure.card.allowed import is_sayable
from perdure.card.training import MAX_POINTS, Point

_MOST_CURVES = 30
# What a log holds beside metrics of a step: the time, and what a run ends with.
_NO_CURVE = re.compile(r"step|epoch|total_flos|train_.*|.*(_runtime|_per_second|_preparation_time)")


def train_metrics(trainer: Any) -> dict[str, float]:
    """The metrics that `trainer.train()` ended with, by the names transformers gives them; empty before training."""
    last: Mapping[str, Any] = next(
        (entry for entry in reversed(trainer.state.log_history) if "train_runtime" in entry), {}
    )
    return numbers({name: value for name, value in last.items() if name != "step"})


def evaluated(trainer: Any) -> dict[str, float]:
    """Evaluate; all that it measured, by the names transformers gives them.

    The oldest of TRL's trainers that are supported put what they measure themselves into the log alone.
    """
    before = len(trainer.state.log_history)
    returned = trainer.evaluate() or {}
    logged = (item for entry in trainer.state.log_history[before:] for item in entry.items())
    return numbers({**{name: value for name, value in logged if name.startswith("eval_")}, **returned})


def curves(log_history: Iterable[Mapping[Any, Any]]) -> dict[str, tuple[Point, ...]]:
    """Metric → its values by step, as they were logged: at most 500 of each, evenly spread, and all finite.

    >>> curves([{"step": 1, "loss": 2.0, "epoch": 0.5}, {"step": 2, "loss": 1.0}, {"step": 2, "eval_loss": 1.5}])
    {'loss': ((1, 2.0), (2, 1.0)), 'eval_loss': ((2, 1.5),)}
    """
    found: dict[str, dict[float, float]] = {}
    passed_over: set[Any] = set()
    for entry in log_history:
        step = entry.get("step")
        if not isinstance(step, int):
            continue
        for name, value in numbers(entry).items():
            if name not in found and name not in passed_over:
                is_curve = _NO_CURVE.fullmatch(name) is None and is_sayable(name)
                found.update({name: {}}) if is_curve else passed_over.add(name)
            if name in found and math.isfinite(value):
                found[name][step] = value  # logged again where a run was resumed
    found = {name: points for name, points in found.items() if points}
    first = sorted(found, key=lambda name: not name.endswith("loss"))[:_MOST_CURVES]
    return {name: _thinned(sorted(found[name].items())) for name in first}


def _thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """The first, the last, and of the others as many as there is room for."""
    if len(points) <= MAX_POINTS:
        return tuple(points)
    return tuple(points[round(n * (len(points) - 1) / (MAX_POINTS - 1))] for n in range(MAX_POINTS))


def numbers(metrics: Mapping[Any, Any]) -> dict[str, float]:
    """Those metrics that are numbers."""
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(name, str) and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def parse_metrics(source: str | None) -> dict[str, Any]:
    """What a metrics file of an earlier run holds; nothing if there is none, or if it is no such file."""
    try:
        values = json.loads(source or "{}")
    except (ValueError, RecursionError):  # not what transformers or we write: it cannot be added to
        return {}
    return values if isinstance(values, dict) else {}


def as_json(values: Mapping[str, Any]) -> bytes:
    """A metrics file's content, as transformers writes it."""
    # JSON has no NaN: readers other than Python's would refuse the whole file.
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
    return (json.dumps(finite, indent=4, sort_keys=True) + "\n").encode()
