"""Write each kind of model into a staged folder. Every function returns what is worth telling the user."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from perdure.folder import Stage
from perdure.format.header import lay_out
from perdure.format.names import ADAPTER_WEIGHTS, CONFIG, PICKLED_ADAPTER_WEIGHTS, PICKLED_WEIGHTS, WEIGHTS
from perdure.format.shards import ShardPlan, encode_index, plan_shards
from perdure.model import adapter, pickled, weights
from perdure.model.configs import module_config, write_transformers_configs
from perdure.model.streams import TensorStream, from_tensors
from perdure.model.tensors import not_finite

if TYPE_CHECKING:
    import torch

NO_LIMIT = sys.maxsize  # PEFT reads no shards


def write_transformers_model(staged: Stage, model: Any, tokenizer: Any, limit: int, safe: bool) -> list[str]:
    """Weights, index, configurations and custom code of a transformers model."""
    name = WEIGHTS if safe else PICKLED_WEIGHTS
    found = _write_weights(staged, weights.transformers_weights(model), name, limit)
    return found + write_transformers_configs(model, staged.path, tokenizer)


def write_module(staged: Stage, module: torch.nn.Module, limit: int, safe: bool) -> list[str]:
    """Weights of a plain module, and its `config` if it has one."""
    of_module = weights.module_weights(module, untie=safe)
    config, warnings = module_config(getattr(module, "config", None))
    if config is not None:
        staged.write(CONFIG, config)
    found = _write_weights(staged, of_module, WEIGHTS if safe else PICKLED_WEIGHTS, limit)
    return [*of_module.warnings, *warnings, *found]


def write_adapters(staged: Stage, model: Any, safe: bool, base: str | None, revision: str | None) -> list[str]:
    """Every adapter of a PEFT model with its configuration; nothing of the base."""
    name = ADAPTER_WEIGHTS if safe else PICKLED_ADAPTER_WEIGHTS
    warnings: list[str] = []
    attached = adapter.has_adapters(model)
    for one in [adapter.attached_adapter(model)] if attached else adapter.adapters_of(model):
        folder = staged.path / one.folder
        folder.mkdir(parents=True, exist_ok=True)
        of_adapter = weights.Weights(tensors=one.tensors, metadata={"format": "pt"}, total_parameters=0)
        warnings += _write_weights(staged, of_adapter, f"{one.folder}/{name}" if one.folder else name, NO_LIMIT)
        warnings += adapter.write_config(one, folder, model, base, revision)
    return list(dict.fromkeys(warnings))


def _write_weights(staged: Stage, of_model: weights.Weights, name: str, limit: int) -> list[str]:
    if name.endswith(".bin"):
        return _write_pickled(staged, of_model, name, limit)
    stream = from_tensors(of_model)
    write_stream(staged, stream, name, limit)
    return stream.warnings


def write_stream(staged: Stage, stream: TensorStream, name: str, limit: int) -> None:
    """One safetensors file called `name`, or several and their index."""
    plan = plan_shards(stream.items, limit, name)
    for file, keys in plan.files.items():
        head, header = lay_out([(key, *stream.infos[key]) for key in keys], stream.metadata)
        staged.write_tensors(file, head, header, stream.read)
    _write_index(staged, plan, name, stream.total_parameters)


def _write_pickled(staged: Stage, of_model: weights.Weights, name: str, limit: int) -> list[str]:
    plan = plan_shards(of_model.items, limit, name)
    for file, keys in plan.files.items():
        pickled.write(staged.path / file, {key: of_model.tensors[key] for key in keys})
    _write_index(staged, plan, name, of_model.total_parameters)
    return [f"{key} has {found}" for key, value in of_model.tensors.items() if (found := not_finite(value))]


def _write_index(staged: Stage, plan: ShardPlan, name: str, total_parameters: int) -> None:
    if plan.is_sharded:
        staged.write(f"{name}.index.json", encode_index(plan, total_parameters))
