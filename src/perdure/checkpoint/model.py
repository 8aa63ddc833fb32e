"""The files that make a checkpoint a model folder: those that `save_model` would write of the same model."""

from __future__ import annotations

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
from perdure.model.tokenizer import write_tokenizer

FORMAT = {"format": "pt"}
_SHARD = parse_size("5GB")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model's files, before they are written.

    Attributes:
        kind: "model", "adapter" or "module", as `save_model` calls it.
        weights: Path → tensor name → tensor. `metadata` is what stands in each file's header.
        small: Path → content.
        finish: Writes configurations into a stage; returns what is worth telling the user.
    """

    kind: str
    weights: Mapping[str, Mapping[str, torch.Tensor]]
    metadata: Mapping[str, str]
    small: Mapping[str, bytes] = field(default_factory=dict)
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
    """What `save_model` would write of `model`; nothing is written yet.

    Raises:
        InvalidInput: The model cannot be saved as it is.
    """
    model = weights.unwrap(model)
    if adapter.is_peft_model(model) or adapter.has_adapters(model):
        found = _adapters(model)
    elif weights.is_transformers_model(model):
        found = _weights("model", weights.transformers_weights(model), {}, [])
    else:
        config, warnings = module_config(getattr(model, "config", None))
        small = {} if config is None else {CONFIG: config}
        found = _weights("module", weights.module_weights(model, untie=True), small, warnings)
    kind, finish = found.kind, found.finish

    def finish_all(staged: Stage) -> list[str]:
        told = finish(staged)
        if kind == "model":
            told += write_transformers_configs(model, staged.path, tokenizer)
        return told + (write_tokenizer(tokenizer, staged.path) if tokenizer is not None else [])

    return ModelFiles(kind=kind, weights=found.weights, metadata=found.metadata, small=found.small, finish=finish_all)


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
    found = [adapter.attached_adapter(model)] if adapter.has_adapters(model) else list(adapter.adapters_of(model))

    def finish(staged: Stage) -> list[str]:
        told: list[str] = []
        for one in found:
            folder = staged.path / one.folder
            folder.mkdir(exist_ok=True)
            told += adapter.write_config(one, folder, model, None, None)
        return told

    paths = {f"{one.folder}/{ADAPTER_WEIGHTS}" if one.folder else ADAPTER_WEIGHTS: one.tensors for one in found}
    return ModelFiles(kind="adapter", weights=paths, metadata=FORMAT, finish=finish)


def ownership(module: torch.nn.Module) -> Callable[[torch.Tensor], str]:
    """Tells of a tensor to be saved whether it is memory of a "parameter", a "buffer", or "own" memory of nobody's."""
    owners = {
        **dict.fromkeys(_storages(module.buffers()), "buffer"),
        **dict.fromkeys(_storages(module.parameters()), "parameter"),
    }
    return lambda tensor: owners.get(weights.storage_of(tensor), "own")


def _storages(tensors: Iterator[torch.Tensor]) -> Iterator[tuple[object, ...]]:
    return (weights.storage_of(tensor) for tensor in tensors)
