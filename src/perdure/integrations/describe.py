"""The facts of a model that a loop of one's own trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perdure.card.allowed import is_sayable, unique
from perdure.card.facts import Dataset, Evaluation, Facts, License
from perdure.card.history import curves
from perdure.card.numbers import amount
from perdure.card.training import Energy, Hardware, Method, Training
from perdure.errors import InvalidInput
from perdure.integrations import lineage
from perdure.integrations.base_card import PATIENCE
from perdure.integrations.command import command
from perdure.integrations.data import datasets_of
from perdure.integrations.gather import card_name, scores, versions
from perdure.integrations.git import source
from perdure.integrations.machine import hardware
from perdure.integrations.settings import adapter_settings, shown
from perdure.integrations.trackers import energy as measured
from perdure.integrations.trackers import logs
from perdure.integrations.weights import weights_of
from perdure.model.kind import kind_of
from perdure.model.weights import unwrap


def describe(
    model: Any,
    *,
    name: str,
    tokenizer: Any = None,
    repo: str | None = None,
    base_model: str | None = None,
    datasets: Any = (),
    hyperparameters: Mapping[str, Any] | None = None,
    method: Method | None = None,
    history: Iterable[Mapping[str, Any]] = (),
    evaluation: Mapping[str, float] | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    seconds: float | None = None,
    tokens: int | None = None,
    processes: int = 1,
    energy: Any = None,
    tags: Sequence[str] = (),
    license: str | None = None,
) -> Facts:
    """The facts of a model that you trained yourself, for its card. Gathered besides: what the model is, its base and
    that one's licence, hardware, library versions, the git commit, what was typed, and links to the run's log.

    What is a secret, a path, or empty is left out.

    Args:
        model: The model, adapter or module.
        name: Its name; of a path, the last part.
        tokenizer: Its tokenizer or processor.
        repo: Its own id on a Hub.
        base_model: The base's Hub id, where it was loaded from a folder.
        datasets: Hub ids; datasets of the `datasets` library, lists or streams; or `Dataset` records.
        hyperparameters: Name → value; the `seed` among them.
        method: How it was trained.
        history: What was logged: a mapping with `step` and metrics for each time.
        evaluation: Metric → value, of the model as it is.
        steps: How many steps of the optimizer.
        epochs: How often the data was seen.
        seconds: How long training took.
        tokens: How many tokens it saw.
        processes: How many trained together, each on a device of its own.
        energy: A tracker of CodeCarbon, or an `Energy` record.
        tags: Tags for the Hub.
        license: The Hub's identifier; by default the base's.

    Raises:
        InvalidInput: A card cannot say this: the name is empty or a secret, or the licence is none of the Hub's list.

    ```python
    facts = perdure.describe(model, name="my-model", hyperparameters={"learning_rate": 1e-4, "seed": 0}, history=logged)
    perdure.Card.from_facts(facts).save("out")
    ```
    """
    last = card_name(name)
    if last is None:
        raise InvalidInput("The model has no name that a card can say.", hint='Say name="my-model".')
    model = unwrap(model)
    base, origin = lineage.described_base(model, base_model, wait=PATIENCE)
    run = Training(
        method=method,
        hyperparameters=shown((hyperparameters or {}).items()),
        adapter=adapter_settings(model) if kind_of(model) == "adapter" else {},
        steps=int(amount(steps) or 0) or None,
        epochs=amount(epochs),
        seconds=amount(seconds),
        tokens=int(amount(tokens) or 0) or None,
        history=curves(history),
        logs=logs(),
        energy=energy if isinstance(energy, Energy) else measured([energy]),
    )
    was_trained = run != Training()  # and not only merged or converted: then it does not matter on what
    training = replace(
        run, hardware=_hardware(model, processes) if was_trained else None, source=source(), command=command()
    )
    found = scores(evaluation or {})
    return Facts(
        name=last,
        repo=repo,
        weights=weights_of(model, tokenizer),
        bases=(base,) if base is not None else (),
        datasets=tuple(record for one in _several(datasets) for record in _described(one)),
        tags=unique(filter(is_sayable, tags)),
        license=License(id=license) if license is not None else origin.license,
        languages=origin.languages,
        training=training,
        evaluation=(Evaluation(metrics=found),) if found else (),
        versions=versions(),
    )


def _hardware(model: Any, processes: int) -> Hardware | None:
    device = next((parameter.device for parameter in model.parameters()), None)
    return hardware(device, processes) if device is not None else None


def _several(datasets: Any) -> Iterable[Any]:
    """The caller's datasets: one, several, or ids among them."""
    if isinstance(datasets, (str, Dataset)) or hasattr(datasets, "info"):
        return [datasets]
    if isinstance(datasets, Mapping):
        return datasets.values()
    several = list(datasets)
    are_datasets = all(isinstance(one, (str, Dataset)) or hasattr(one, "info") for one in several)
    return several if are_datasets else [several]


def _described(dataset: Any) -> tuple[Dataset, ...]:
    if isinstance(dataset, Dataset):
        return (dataset,)
    if isinstance(dataset, str):
        return (Dataset(id=dataset),)
    return datasets_of(dataset)
