"""What trackers that are open in this process tell of a run: links to its log, and the energy it took.

Nothing is imported and no network is used: a tracker that the program does not use has nothing to tell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from perdure.card.allowed import is_public_link, is_sayable
from perdure.card.numbers import amount
from perdure.card.training import Energy
from perdure.format.hub_id import HUB, is_hub_id

T = TypeVar("T")


def logs(callbacks: Iterable[Any] = ()) -> dict[str, str]:
    """Service → public link to the log of a run that is open.

    Args:
        callbacks: A Trainer's, one of which may write for TensorBoard.
    """
    asked: Mapping[str, Callable[[], str | None]] = {
        "Weights & Biases": lambda: _without_query(_attribute("wandb", "run", "url")),
        "Comet": lambda: _without_query(_attribute("comet_ml", "get_running_experiment", "url")),
        "Trackio": _trackio,
        "MLflow": _mlflow,
        "TensorBoard": lambda: next(filter(None, map(_tensorboard, callbacks)), None),
    }
    return {
        name: link
        for name, link in ((name, _answer(question)) for name, question in asked.items())
        if isinstance(link, str) and link.startswith("https://") and is_public_link(link)
    }


def energy(callbacks: Iterable[Any]) -> Energy | None:
    """What CodeCarbon measured, by a tracker of its own or one that a Trainer's callback holds."""
    for holder in callbacks:
        for tracker in (holder, _answer(partial(getattr, holder, "tracker", None))):
            if type(tracker).__module__.split(".")[0] == "codecarbon":
                return _answer(partial(_measured, tracker))
    return None


def _answer(question: Callable[[], T]) -> T | None:
    """What a tracker says; None where it fails: a run that is over must not be lost to its log."""
    try:
        return question()
    except Exception:
        return None


def _measured(tracker: Any) -> Energy | None:
    """Of a tracker that still runs: transformers' callback never stops its own."""
    final = getattr(tracker, "final_emissions_data", None)
    if final is not None:
        kwh, kilograms, country = (
            getattr(final, name, None) for name in ("energy_consumed", "emissions", "country_name")
        )
    else:
        kwh, country = getattr(getattr(tracker, "_total_energy", None), "kWh", None), None
        kilograms = getattr(tracker, "_total_emissions", None)
    if not amount(kwh):
        return None
    return Energy(
        kwh=amount(kwh),
        co2_kg=amount(kilograms) or None,
        country=country if is_sayable(country) else None,
    )


def _without_query(link: Any) -> str | None:
    """The link as anybody may have it: an anonymous run's has the key in its query that lets people change it."""
    return link.partition("?")[0] if isinstance(link, str) else None


def _trackio() -> str | None:
    run = _attribute("trackio.context_vars", "current_run", "get")
    space = getattr(run, "_space_id", None)
    if not isinstance(space, str):
        return None
    return f"https://{space.replace('/', '-')}.hf.space?project={run.project}&runs={run.name}&sidebar=collapsed"


def _mlflow() -> str | None:
    """Of the run that is open, or the last one that was: transformers' callback ends its run with training."""
    server = _attribute("mlflow", "get_tracking_uri")
    run = _attribute("mlflow", "active_run", "info")
    ended = _attribute("mlflow.tracking.fluent", "_last_active_run_id", "get")
    number = getattr(run, "run_id", None) or ended
    experiment = getattr(run, "experiment_id", None) or _attribute("mlflow.tracking.fluent", "_active_experiment_id")
    if not isinstance(server, str) or not number:
        return None
    experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_ID") or "0"  # MLflow's own default
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs/{number}"


def _tensorboard(callback: Any) -> str | None:
    """Only a writer that pushes what it writes to a Hub has a place that others can see."""
    repo = getattr(getattr(callback, "tb_writer", None), "repo_id", None)
    return f"{HUB}/{repo}/tensorboard" if is_hub_id(repo) else None


def _attribute(module: str, *path: str) -> Any:
    value: Any = sys.modules.get(module)
    for name in path:
        value = getattr(value, name, None)
        value = value() if callable(value) else value
    return value
