"""A run's metrics, from the Trainer and in the files that keep them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from perdure.card.history import numbers


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
