"""What a model is to a save: three kinds, told apart in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

from perdure.format.manifest import Manifest
from perdure.format.names import CONFIG
from perdure.model.adapter import has_adapters, is_peft_model
from perdure.model.configs import is_transformers_config
from perdure.model.weights import is_transformers_model

Kind = Literal["model", "adapter", "module"]


def kind_of(model: Any) -> Kind:
    """Of an unwrapped model: adapters are what is saved of a model that has any."""
    if is_peft_model(model) or has_adapters(model):
        return "adapter"
    return "model" if is_transformers_model(model) else "module"


def kind_in(folder: Path, manifest: Manifest | None, *, is_adapter: bool) -> Kind:
    """Of a saved model: what its manifest says, else what lies in its folder."""
    if manifest is not None and is_kind(manifest.kind):
        return manifest.kind
    if is_adapter:
        return "adapter"
    return "model" if is_transformers_config(folder / CONFIG) else "module"


def is_kind(text: str) -> TypeGuard[Kind]:
    """Whether this is a kind of model; a manifest's may also be "checkpoint"."""
    return text in get_args(Kind)
