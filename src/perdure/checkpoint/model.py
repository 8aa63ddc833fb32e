"""The files that make a checkpoint a model folder: those that `save_model` would write of the same model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import torch

from perdure.folder import Stage
from perdure.format.names import ADAPTER_WEIGHTS, CONFIG, INDEX, WEIGHTS
from perdure.format.shards import encode_index, parse_size, plan_shards
from perdure.model import adapter, weights
from perdure.model.configs import module_config, write_transformers_configs
from perdure.model.kind import kind_of
from perdure.model.tokenizer import write_tokenizer
from perdure.state.base import base_of
from perdure.state.memory import regions_of

FORMAT = {"format": "pt"}
_UNNAMED = (
    "no id on the Hub is known of the base model, so the adapter's config does not name it; "
    "load the checkpoint with PeftModel.from_pretrained(base, folder)"
)
_SHARD = parse_size("5GB")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model's files, before they are written.

    Attributes:
        kind: "model", "adapter" or "module", as `save_model` calls it.
        weights: Path → tensor name → tensor. `metadata` is what stands in each file's header.
        small: Path → content.
        about: What a checkpoint is to say of the model besides.
        finish: Writes configurations into a stage; returns what is worth telling the user.
    """

    kind: str
    weights: Mapping[str, Mapping[str, torch.Tensor]]
    metadata: Mapping[str, str]
    small: Mapping[str, bytes] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    finish: Callable[[Stage], list[str]] = lambda staged: []

    def by_key(self) -> dict[str, torch.Tensor]:
        """Every tensor by `key_of` its name."""
        return {
            key_of(path, name): tensor for path, tensors in self.weights.items() for name, tensor in tensors.items()
        }


def key_of(path: str, name: str) -> str:
    """A name for a tensor of the file `path` that no tensor of another file has: adapters share theirs."""
    folder = PurePosixPath(path).parent
    return name if folder == PurePosixPath(".") else f"{folder}/{name}"


def files_of(model: Any, tokenizer: Any) -> ModelFiles:
    """What `save_model` would write of `model`, without what is no tensor; nothing is written yet.

    Raises:
        InvalidInput: The model cannot be saved as it is.
    """
    model = weights.unwrap(model)
    kind = kind_of(model)
    if kind == "adapter":
        found = _adapters(model)
    elif kind == "model":
        found = _weights("model", weights.transformers_weights(model, only_tensors=True), {}, [])
    else:
        config, warnings = module_config(getattr(model, "config", None))
        small = {} if config is None else {CONFIG: config}
        found = _weights("module", weights.module_weights(model, untie=True, only_tensors=True), small, warnings)
    finish = found.finish

    def finish_all(staged: Stage) -> list[str]:
        told = finish(staged)
        if kind == "model":
            told += write_transformers_configs(model, staged.path, tokenizer)
        return told + (write_tokenizer(tokenizer, staged.path) if tokenizer is not None else [])

    return dataclasses.replace(found, finish=finish_all)


def _weights(kind: str, of_model: weights.Weights, small: dict[str, bytes], warnings: list[str]) -> ModelFiles:
    plan = plan_shards(of_model.items, _SHARD, WEIGHTS)
    if plan.is_sharded:
        small = {**small, INDEX: encode_index(plan, of_model.total_parameters)}
    shards = {path: {name: of_model.tensors[name] for name in names} for path, names in plan.files.items()}
    told = [*of_model.warnings, *warnings]
    return ModelFiles(
        kind=kind, weights=shards, metadata=of_model.metadata, small=small, finish=lambda staged: list(told)
    )


def _adapters(model: Any) -> ModelFiles:
    attached = adapter.has_adapters(model)
    found = list(
        adapter.attached_adapters(model) if attached else adapter.adapters_of(model, with_base_embeddings=False)
    )

    def finish(staged: Stage) -> list[str]:
        unnamed = False
        for one in found:
            folder = staged.path / one.folder
            folder.mkdir(exist_ok=True)
            unnamed |= bool(adapter.write_config(one, folder, model, None, None))
        return [_UNNAMED] if unnamed else []

    paths = {f"{one.folder}/{ADAPTER_WEIGHTS}" if one.folder else ADAPTER_WEIGHTS: one.tensors for one in found}
    about = {"active": adapter.active_adapters(model)}
    return ModelFiles(kind="adapter", weights=paths, metadata=FORMAT, about=about, finish=finish)


def other_kind(model: Any, *, has_adapters: bool) -> str:
    """In words, that of a live model and a checkpoint, which `has_adapters` or not, one does and the other does not."""
    if has_adapters == (kind_of(weights.unwrap(model)) == "adapter"):
        return ""
    if has_adapters:
        return "the checkpoint holds adapters, and the model has none"
    return "the checkpoint holds a whole model, and the model here has adapters"


def active_differences(model: Any, saved: list[str]) -> list[str]:
    """In what the adapters that were active cannot be the active ones of a live model, in words."""
    return [f"the adapter {name!r} was active, and is not here" for name in saved if name not in model.peft_config]


def activate(model: Any, saved: list[str]) -> None:
    """Make the adapters that were active the active ones again; one that has them is left as it is."""
    if adapter.active_adapters(model) != saved:
        adapter.activate(model, saved)


def note_base(model: Any) -> None:
    """Take note of the frozen base of a model with adapters, before training can change what is not to change."""
    model = weights.unwrap(model)
    if kind_of(model) == "adapter":
        base_of(model, regions_of(model))


def ownership(module: torch.nn.Module) -> Callable[[torch.Tensor], str]:
    """Tells of a tensor to be saved whether it is memory of a "parameter", a "buffer", or "own" memory of nobody's."""
    owners = {
        **dict.fromkeys(_storages(module.buffers()), "buffer"),
        **dict.fromkeys(_storages(module.parameters()), "parameter"),
    }
    return lambda tensor: owners.get(weights.storage_of(tensor), "own")


def _storages(tensors: Iterator[torch.Tensor]) -> Iterator[tuple[object, ...]]:
    return (weights.storage_of(tensor) for tensor in tensors)
