"""The numbers a revision came with: from perdure's manifest, a trainer's state, evaluation results, or the card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from dulwich.objects import Commit

from perdure.hub import card, limits, tree
from perdure.hub.git import GitRepo
from perdure.hub.web.facts import README, text_of

_MOST: Final = 40
_NAME: Final = 80
_FILE: Final = 2 * limits.MIB
# what a trainer logs beside its metrics
_NOT_METRICS: Final = re.compile(r"(?:step|global_step|epoch|total_flos|.*_(?:runtime|per_second|samples|flos|timing))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The step and epoch of a revision, where it says so, and its metrics by name."""

    step: int | None = None
    epoch: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def of(git: GitRepo, commit: Commit) -> Measured:
    """What is measured in a commit; of several files that have a metric, the first is believed."""

    def text(path: str) -> str:
        entry = tree.find(git, commit, path)
        fits = entry is not None and entry.size <= _FILE
        return (text_of(git, entry) if fits else None) or ""

    manifest, state = _object(text("perdure.json")), _object(text("trainer_state.json"))
    metrics: dict[str, float] = {}
    for source in (
        _numbers(manifest.get("metrics")),
        _logged(state.get("log_history")),
        _numbers(_object(text("all_results.json"))),
        _evaluated(text(README)),
    ):
        for name, value in source:
            if len(metrics) < _MOST and not _NOT_METRICS.fullmatch(name):
                metrics.setdefault(name[:_NAME], value)
    step, epoch = manifest.get("step", state.get("global_step")), manifest.get("epoch", state.get("epoch"))
    return Measured(
        step=step if type(step) is int and 0 <= step < 2**63 else None, epoch=_number(epoch), metrics=metrics
    )


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "null")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _numbers(values: object) -> Iterator[tuple[str, float]]:
    for name, value in values.items() if isinstance(values, dict) else ():
        number = _number(value)
        if number is not None:
            yield name, number


def _logged(history: object) -> Iterator[tuple[str, float]]:
    """The newest value of everything a trainer logged."""
    for entry in reversed(history) if isinstance(history, list) else ():
        yield from _numbers(entry)


def _evaluated(readme: str) -> Iterator[tuple[str, float]]:
    """The results in a card's `model-index`."""
    try:
        index = card.read_metadata(readme).get("model-index")
    except card.CardError:
        return
    for result in (result for model in _dicts(index) for result in _dicts(model.get("results"))):
        dataset = result.get("dataset")
        where = dataset.get("name") if isinstance(dataset, dict) else None
        for metric in _dicts(result.get("metrics")):
            value = _number(metric.get("value"))
            name = metric.get("name") or metric.get("type")
            if value is not None and isinstance(name, str):
                yield f"{where} · {name}" if isinstance(where, str) else name, value


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _number(value: object) -> float | None:
    """A number, also one that JSON does not know and the manifest writes as text: `"nan"`, `"inf"`."""
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or value in ("nan", "inf", "-inf")):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
