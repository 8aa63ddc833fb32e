"""The model that a model was made from: its public name, its licence, its languages."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from threading import Thread
from typing import Any

from perdure.card.facts import BaseModel, Relation
from perdure.card.origin import Origin, origin_of
from perdure.format.hub_id import is_hub_id, looks_like_hub_id
from perdure.model.adapter import base_of, is_peft_model
from perdure.model.kind import kind_of

PATIENCE = 4.0  # seconds for the Hub to say what the base's licence is

_asked: dict[tuple[str, str | None], Future[dict[str, object]]] = {}


def base_model(model: Any, told: str | None) -> BaseModel | None:
    """The base to record with an adapter's or model's weights: the caller's, or the one it was loaded from."""
    found = _origin(model, told)
    if found.id is None or not is_hub_id(found.id):
        return None
    return BaseModel(id=found.id, revision=found.revision, relation=_relation(model))


def has_base(model: Any) -> bool:
    """Whether the model, or what its adapter is for, was loaded from somewhere and not made new."""
    return bool(_loaded_from(model))


def described_base(model: Any, told: str | None, *, wait: float) -> tuple[BaseModel | None, Origin]:
    """The base, and what its card says: the local one, or else the Hub's, where it can be reached.

    Args:
        model: A model, unwrapped.
        told: The base's Hub id, as the caller knows it.
        wait: Seconds to wait for the Hub. It is asked once for each base.
    """
    base, origin = base_model(model, told), _origin(model, told)
    if base is not None and origin.license is None:
        origin = origin.described(_on_hub(base, wait))
    return base, origin


def inner_of(model: Any) -> Any:
    """The model itself, without the wrapper that PEFT puts around it."""
    return model.get_base_model() if is_peft_model(model) else model


def _relation(model: Any) -> Relation:
    if kind_of(model) == "adapter":
        return "adapter"
    return "quantized" if getattr(model, "is_quantized", False) else "finetune"


def _origin(model: Any, told: str | None) -> Origin:
    commit = getattr(getattr(inner_of(model), "config", None), "_commit_hash", None)
    found = origin_of(_loaded_from(model), revision=commit, exact=kind_of(model) == "adapter")
    if is_hub_id(told) and told != found.id:
        return origin_of(told) if looks_like_hub_id(told) else Origin(id=told, license=found.license)
    return found


def _loaded_from(model: Any) -> str:
    config = getattr(inner_of(model), "config", None)
    return str((base_of(model) if is_peft_model(model) else getattr(config, "_name_or_path", None)) or "")


def _on_hub(base: BaseModel, wait: float) -> dict[str, object]:
    """Never an error, and never more than a wait: the answer may come in time for the next card."""
    key = (base.id, base.revision)
    if key not in _asked:
        _asked[key] = Future()
        Thread(target=_ask, args=(*key, _asked[key]), daemon=True, name="perdure-base").start()
    try:
        return _asked[key].result(wait)
    except NotInTime:
        return {}


def _ask(repo: str, revision: str | None, answer: Future[dict[str, object]]) -> None:
    from perdure.publishing.client import metadata_of

    try:
        answer.set_result(metadata_of(repo, revision, seconds=PATIENCE))
    except Exception:  # no Hub, no such repository, no client: then a card says nothing of a licence
        answer.set_result({})
