"""What was measured of a model, and its place in a card's `model-index`.

The Hub files a measurement under a task and a dataset; one without them has its row in the card's table alone.
An index that people have edited is changed entry by entry: what they wrote stays.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from perdure.card.allowed import check_text
from perdure.card.numbers import plain
from perdure.errors import InvalidInput
from perdure.format.hub_id import is_hub_id

Key: TypeAlias = tuple[str | None, ...]
_Place: TypeAlias = tuple[list[Any], dict[str, Any]]  # a metric and the list that holds it


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measurement.

    Args:
        metric: Its name, such as `accuracy`.
        value: In the metric's own unit.
        task: The Hub's name of what was done, such as `text-generation`.
        dataset: The Hub id of what it was measured on.
        config: The dataset's configuration.
        split: Its split.
        revision: Its commit.
        added: Measured after the run, by whoever wrote it onto the card: making the card anew keeps it.

    Raises:
        InvalidInput: The metric has no name, the value is no number, or the dataset is no Hub id.
    """

    metric: str
    value: float
    task: str | None = None
    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    added: bool = False

    def __post_init__(self) -> None:
        named = isinstance(self.metric, str) and bool(self.metric.strip())
        number = plain(self.value)
        if not named or number is None:
            raise InvalidInput(
                f"{self.metric!r} with a {type(self.value).__name__} is no result: a name and a number are."
            )
        object.__setattr__(self, "value", number)
        check_text("a result's name, task, config, split or revision", self.metric, self.task, self.config, self.split,
                   self.revision)  # fmt: skip
        if self.dataset is not None and not is_hub_id(self.dataset):
            raise InvalidInput(
                f"{self.dataset!r} is not the id of a dataset on a Hub.",
                hint="Leave dataset= out for data that is not there.",
            )

    @property
    def key(self) -> Key:
        """What it is a measurement of: a later one with the same key takes its place."""
        return (self.task, self.dataset, self.config, self.split, self.metric)

    def as_document(self) -> dict[str, Any]:
        """For JSON, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}


def parse_results(document: object) -> tuple[Result, ...]:
    """The results of which `document` lists the `as_document`; what is none of them is passed over."""
    found = []
    for item in document if isinstance(document, list) else ():
        try:
            found.append(Result(**item))
        except (TypeError, InvalidInput):  # edited by somebody: then it is no record of ours
            continue
    return tuple(found)


def latest(results: Iterable[Result]) -> tuple[Result, ...]:
    """The last of each key, where the first of it stood."""
    return tuple({result.key: result for result in results}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A `model-index`, and what in it is a person's and differs from the results."""

    value: object
    kept: tuple[str, ...] = ()


def merge_index(
    present: object,
    name: str | None,
    results: Sequence[Result],
    *,
    last: Sequence[Result],
    explicit: Collection[Key] = (),
) -> Index:
    """Put results into a model-index.

    Args:
        present: The index as it stands; None where there is none.
        name: The model's name, for an entry of its own; a model without one has none.
        results: As they are now; those without a task and a dataset have no place here.
        last: As they were written last: an entry with its old value is renewed, one that somebody took out stays out,
            and one that is no longer among the results goes.
        explicit: Keys of results that somebody asks for: they replace what a person wrote.
    """
    index = copy.deepcopy(present) if present is not None else []
    try:
        return _merged(index, name, results, last, explicit)
    except (KeyError, TypeError, AttributeError):  # not the Hub's shape: nothing in it is certain
        return Index(value=present, kept=("it has not the shape that the Hub reads",))


def is_index(value: object) -> bool:
    """Whether the Hub can read this as a model-index."""
    index: Any = value
    try:
        _places(index)
        named = all(isinstance(entry["name"], str) for entry in index)
        return named and all(_is_filed(group) for entry in index for group in entry["results"])
    except (KeyError, TypeError, AttributeError):
        return False


def _is_filed(group: Any) -> bool:
    metrics = all(isinstance(metric["type"], str) and "value" in metric for metric in group["metrics"])
    names = (group["task"]["type"], group["dataset"]["type"], group["dataset"]["name"])
    return metrics and all(isinstance(name, str) for name in names)


def _merged(
    index: Any, name: str | None, results: Sequence[Result], last: Sequence[Result], explicit: Collection[Key]
) -> Index:
    written = {result.key: result.value for result in last}
    wanted = {result.key: result for result in results if _has_a_place(result)}
    places = _places(index)
    kept = []
    for key in written.keys() - wanted.keys():
        if key in places and places[key][1]["value"] == written[key]:
            _take_out(index, *places[key])
    for key, result in wanted.items():
        if key not in places:
            if key in explicit or key not in written:
                _add(index, name, result)
            continue
        metric = places[key][1]
        if metric["value"] == result.value:
            continue
        if key in explicit or (key in written and metric["value"] == written[key]):
            metric["value"] = result.value
        else:
            kept.append(f"{result.metric} is {metric['value']}, and was measured as {result.value}")
    return Index(value=index, kept=tuple(kept))


def _has_a_place(result: Result) -> bool:
    return result.task is not None and result.dataset is not None and math.isfinite(result.value)


def _places(index: Any) -> dict[Key, _Place]:
    found: dict[Key, _Place] = {}
    for entry in index:
        for group in entry["results"]:
            for metric in group["metrics"]:
                found.setdefault(
                    (*_group_key(group), str(metric.get("name") or metric["type"])), (group["metrics"], metric)
                )
    return found


def _group_key(group: Any) -> Key:
    dataset = group["dataset"]
    return (group["task"]["type"], dataset["type"], dataset.get("config"), dataset.get("split"))


def _take_out(index: Any, metrics: list[Any], metric: dict[str, Any]) -> None:
    metrics[:] = [one for one in metrics if one is not metric]
    for entry in index:
        entry["results"][:] = [group for group in entry["results"] if group["metrics"]]
    index[:] = [entry for entry in index if entry["results"]]


def _add(index: Any, name: str | None, result: Result) -> None:
    entry = next((entry for entry in index if entry["name"] == name), index[0] if len(index) == 1 else None)
    if entry is None and name is None:
        return
    if entry is None:
        entry = {"name": name, "results": []}
        index.append(entry)
    group = next((group for group in entry["results"] if _group_key(group) == result.key[:4]), None)
    if group is None:
        dataset = {
            "name": result.dataset, "type": result.dataset, "config": result.config, "split": result.split,
            "revision": result.revision,
        }  # fmt: skip
        group = {
            "task": {"type": result.task},
            "dataset": {key: value for key, value in dataset.items() if value is not None},
            "metrics": [],
        }
        entry["results"].append(group)
    # The Hub knows metrics by names without the prefix that tells a Trainer's apart.
    kind = result.metric.removeprefix("eval_") or result.metric
    group["metrics"].append({"type": kind, "value": result.value, "name": result.metric})
