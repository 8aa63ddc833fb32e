"""The model that a model was made from: its public name, its licence, its languages."""

from __future__ import annotations

from typing import Any

from perdure.card.facts import BaseModel, Relation
from perdure.card.origin import Origin, only_commit, origin_of
from perdure.format.hub_id import is_hub_id, looks_like_hub_id
from perdure.integrations.base_card import metadata_of
from perdure.model.adapter import base_of, is_peft_model
from perdure.model.kind import kind_of


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
        origin = origin.described(metadata_of(base, wait))
    return base, origin


def inner_of(model: Any) -> Any:
    """The model itself, without the wrapper that PEFT puts around it."""
    return model.get_base_model() if is_peft_model(model) else model


def _relation(model: Any) -> Relation:
    if kind_of(model) == "adapter":
        return "adapter"
    return "quantized" if getattr(model, "is_quantized", False) else "finetune"


def _origin(model: Any, told: str | None) -> Origin:
    name = _loaded_from(model)
    commit = getattr(getattr(inner_of(model), "config", None), "_commit_hash", None) or only_commit(name)
    found = origin_of(name, revision=commit, exact=kind_of(model) == "adapter")
    if is_hub_id(told) and told != found.id:
        return origin_of(told) if looks_like_hub_id(told) else Origin(id=told, license=found.license)
    return found


def _loaded_from(model: Any) -> str:
    config = getattr(inner_of(model), "config", None)
    return str((base_of(model) if is_peft_model(model) else getattr(config, "_name_or_path", None)) or "")
