"""What a revision's own small files say about it: step and metrics. Pure, and bounded; the files are anybody's."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perdure.card.document import Document
from perdure.errors import PerdureError
from perdure.format.manifest import decode
from perdure.format.names import CARD, MANIFEST

TRAINER_STATE = "trainer_state.json"
# path → bytes up to which it is read
FILES = {MANIFEST: 32 * 2**20, TRAINER_STATE: 16 * 2**20, CARD: 2**20}
_STEP = re.compile(r"(?:step|checkpoint)[-_]0*(\d{1,15})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Step and metrics of a revision, and which of its files could not be read, in words."""

    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None


def step_in(name: str) -> int | None:
    """The step that a revision's name tells.

    >>> step_in("main-step-000000200"), step_in("v1.0")
    (200, None)
    """
    found = _STEP.search(name)
    return int(found[1]) if found else None


def measured(files: Mapping[str, bytes]) -> Measured:
    """What a revision's files say, those of `FILES` that it has.

    The card has the last word: it holds what was measured after training.
    """
    step: int | None = None
    metrics: dict[str, float] = {}
    problems = []
    for path, read in ((TRAINER_STATE, _log), (MANIFEST, _manifest), (CARD, _card)):
        if path not in files:
            continue
        try:
            told, values = read(files[path])
        except PerdureError as error:
            problems.append(error.message)
        except ValueError as error:
            problems.append(f"{path} does not read: {error}.")
        except (TypeError, AttributeError, KeyError, RecursionError, OverflowError):
            problems.append(f"{path} is not laid out as such files are.")
        else:
            step = told if told is not None else step
            metrics.update(values)
    return Measured(step=step, metrics=metrics, problem=" ".join(problems) or None)


def _manifest(data: bytes) -> tuple[int | None, dict[str, float]]:
    manifest = decode(data)
    return manifest.step, {name: value for name, value in manifest.metrics.items() if math.isfinite(value)}


def _log(data: bytes) -> tuple[int | None, dict[str, float]]:
    """The last value of each number in the log of transformers' Trainer."""
    state = json.loads(data)
    values: dict[str, float] = {}
    for entry in state.get("log_history", []):
        values.update(_numbers(entry))
    values.pop("step", None)
    step = state.get("global_step")
    return step if isinstance(step, int) else None, values


def _card(data: bytes) -> tuple[None, dict[str, float]]:
    """The results of a card: those that we wrote onto it, and its `model-index`, which people edit, over them.

    A metric's name has that of its dataset, too, where it was measured on several.
    """
    document = Document.parse(data.decode("utf-8"))
    front = document.metadata
    if front is None:
        raise ValueError("its front matter is no YAML that can be read")
    found = {(one.metric, one.dataset or ""): one.value for one in document.record.results if math.isfinite(one.value)}
    for model in front.get("model-index") or []:
        for result in model.get("results") or []:
            dataset = str((result.get("dataset") or {}).get("name", ""))
            for metric in result.get("metrics") or []:
                if _is_number(metric.get("value")):
                    found[str(metric.get("name") or metric["type"]), dataset] = float(metric["value"])
    names = [name for name, _ in found]
    return None, {
        name if names.count(name) == 1 else f"{name} ({dataset})": value for (name, dataset), value in found.items()
    }


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
