"""What a Trainer knows about its run, as facts for a card. Reads only; what is not certain is left out."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from perdure.card.allowed import is_sayable, unique
from perdure.card.facts import Evaluation, Facts
from perdure.card.history import curves, numbers
from perdure.card.numbers import amount
from perdure.card.training import Method, Training
from perdure.format.hub_id import is_hub_id, looks_like_hub_id
from perdure.integrations import lineage
from perdure.integrations.base_card import PATIENCE
from perdure.integrations.command import command
from perdure.integrations.data import datasets_of
from perdure.integrations.git import source
from perdure.integrations.machine import hardware
from perdure.integrations.metrics import train_metrics
from perdure.integrations.settings import adapter_settings, hyperparameters, shown
from perdure.integrations.trackers import energy, logs
from perdure.integrations.weights import weights_of
from perdure.model.kind import kind_of

_LIBRARIES = {
    "perdure": "perdure",
    "trl": "TRL",
    "peft": "PEFT",
    "transformers": "Transformers",
    "accelerate": "Accelerate",
    "torch": "PyTorch",
    "datasets": "Datasets",
    "tokenizers": "Tokenizers",
}
_NO_SCORE = ("_runtime", "_per_second", "_preparation_time", "num_tokens", "_entropy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What only the caller knows, and what is asked of the card by name.

    Args:
        name: The model's name; a folder's or repository's last part will do. None where there is none.
        repo: Its id on a Hub, where known.
        base_model: The base's id on a Hub, in place of the one found.
        datasets: Names of datasets; those that are no Hub ids are left out.
        tags: More tags.
    """

    name: str | None
    repo: str | None = None
    base_model: str | None = None
    datasets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def gather(trainer: Any, model: Any, told: Told, evaluation: Mapping[str, float], *, wait: float = PATIENCE) -> Facts:
    """The facts of a run.

    Args:
        trainer: A transformers Trainer, or one of TRL's, after training or in the midst of it.
        model: Its model, unwrapped.
        told: What the caller says.
        evaluation: Metrics of the model.
        wait: Seconds to wait for the Hub, which is asked for the base's licence where no local file says it.
    """
    base, origin = lineage.described_base(model, told.base_model, wait=wait)
    measured = scores(evaluation)
    used = datasets_of(trainer.eval_dataset, use="evaluation")
    measured_on = used[0] if len(used) == 1 and used[0].id is not None else None
    return Facts(
        name=told.name,
        repo=told.repo if is_hub_id(told.repo) else None,
        weights=weights_of(model, trainer.processing_class),
        bases=(base,) if base is not None else (),
        datasets=(
            *datasets_of(trainer.train_dataset, named=filter(looks_like_hub_id, told.datasets)),
            *used,
        ),
        tags=unique(filter(is_sayable, (*_tags(trainer, model), *told.tags))),
        license=origin.license,
        languages=origin.languages,
        training=_training(trainer, model),
        evaluation=(Evaluation(metrics=measured, dataset=measured_on),) if measured else (),
        versions=versions(),
    )


def card_name(*candidates: str | Path | None) -> str | None:
    """A model's name: the last part of the first name, repository or folder that has one; None where none has."""
    for candidate in candidates:
        last = str(candidate or "").replace("\\", "/").strip("/ ").rpartition("/")[2]
        if is_sayable(last):
            return last
    return None


def as_names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several or none, as a tuple.

    >>> as_names("a"), as_names(["a", "b"]), as_names(None)
    (('a',), ('a', 'b'), ())
    """
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def method_name(trainer: Any) -> str | None:
    """`SFT`, `DPO`, `GRPO` …, as TRL's trainers and their subclasses call themselves; None for a plain Trainer."""
    name = getattr(trainer, "_name", None)
    return name if _is_trl(trainer) and isinstance(name, str) and name != "Base" else None


def _is_trl(trainer: Any) -> bool:
    return any(cls.__module__.partition(".")[0] == "trl" for cls in type(trainer).__mro__)


def _method(trainer: Any) -> Method | None:
    name = method_name(trainer)
    if name is None:
        return None
    paper = getattr(trainer, "_paper", None) or {}
    return Method(
        name=name, library="TRL", title=paper.get("title"), arxiv=paper.get("id"), citation=paper.get("citation")
    )


def _tags(trainer: Any, model: Any) -> Iterable[str]:
    for owner, attribute in ((trainer, "_tag_names"), (model, "model_tags")):
        found = getattr(owner, attribute, None) or ()
        yield from (tag for tag in ([found] if isinstance(found, str) else found) if isinstance(tag, str))


def _training(trainer: Any, model: Any) -> Training:
    args, state = trainer.args, trainer.state
    callbacks = trainer.callback_handler.callbacks
    trained = train_metrics(trainer)
    tokens = state.num_input_tokens_seen or _last(state, "num_tokens")  # TRL's trainers count for themselves
    ended = {name: _last(state, name) for name in ("loss", "reward")} | {"train_loss": trained.get("train_loss")}
    return Training(
        method=_method(trainer),
        hyperparameters={**hyperparameters(args), **shown([("reward_funcs", _rewards(trainer))])},
        adapter=adapter_settings(model) if kind_of(model) == "adapter" else {},
        steps=state.global_step or None,
        epochs=amount(state.epoch) or None,
        seconds=amount(trained.get("train_runtime")),
        tokens=int(amount(tokens) or 0) or None,
        results={name: value for name, value in ended.items() if value is not None},
        history=curves(state.log_history),
        hardware=hardware(args.device, args.world_size * max(1, args.n_gpu)),
        source=source(),
        command=command(),
        logs=logs(callbacks),
        energy=energy(callbacks),
    )


def _rewards(trainer: Any) -> list[str] | None:
    """What a trainer that learns from rewards calls them."""
    names = getattr(trainer, "reward_func_names", None)
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else None


def _last(state: Any, name: str) -> float | None:
    said = next((entry[name] for entry in reversed(state.log_history) if name in entry), None)
    return numbers({name: said}).get(name)


def scores(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Of what an evaluation returned, all that tells how good a model is: not how long it took, nor on how much."""
    return {
        name: value
        for name, value in numbers(evaluation).items()
        if name != "epoch" and not name.endswith(_NO_SCORE) and is_sayable(name)
    }


def versions() -> dict[str, str]:
    """Library → version, of those that this process uses, and of Python."""
    found = {"Python": platform.python_version()}
    for package, name in _LIBRARIES.items():
        if package in sys.modules:
            try:
                found[name] = version(package)
            except PackageNotFoundError:  # run from a source tree that is not installed
                continue
    return found
