"""Write each kind of model into a staged folder. Every function returns what is worth telling the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from perdure.folder import Stage
from perdure.format.header import lay_out
from perdure.format.names import ADAPTER_WEIGHTS, CONFIG, INDEX, WEIGHTS
from perdure.format.shards import Item, encode_index, plan_shards
from perdure.model import adapter, pickled, tensors, weights
from perdure.model.configs import module_config, write_transformers_configs
from perdure.model.tokenizer import write_tokenizer

if TYPE_CHECKING:
    import torch

__all__ = ["write_adapters", "write_module", "write_tokenizer", "write_transformers_model"]

_FORMAT = {"format": "pt"}
_BIN_NAMES = {
    WEIGHTS: "pytorch_model.bin",
    INDEX: "pytorch_model.bin.index.json",
    ADAPTER_WEIGHTS: "adapter_model.bin",
}


def write_transformers_model(staged: Stage, model: Any, tokenizer: Any, limit: int, safe: bool) -> list[str]:
    """Weights, index, configurations and custom code of a transformers model."""
    found = write_weights(staged, weights.transformers_weights(model), limit, safe)
    return found + write_transformers_configs(model, staged.path, tokenizer)


def write_module(staged: Stage, module: torch.nn.Module, limit: int, safe: bool) -> list[str]:
    """Weights of a plain module, and its `config` if it has one."""
    of_module = weights.module_weights(module, untie=safe)
    config, warnings = module_config(getattr(module, "config", None))
    if config is not None:
        staged.write(CONFIG, config)
    return [*of_module.warnings, *warnings, *write_weights(staged, of_module, limit, safe)]


def write_adapters(staged: Stage, model: Any, safe: bool, base: str | None, revision: str | None) -> list[str]:
    """Every adapter of a PEFT model with its configuration; nothing of the base."""
    warnings: list[str] = []
    attached = adapter.has_adapters(model)
    for one in [adapter.attached_adapter(model)] if attached else adapter.adapters_of(model):
        folder = staged.path / one.folder
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f"{one.folder}/" if one.folder else ""
        warnings += _write_file(staged, prefix + ADAPTER_WEIGHTS, one.tensors, _FORMAT, safe)
        warnings += adapter.write_config(one, folder, model, base, revision)
    return list(dict.fromkeys(warnings))


def write_weights(staged: Stage, model: weights.Weights, limit: int, safe: bool) -> list[str]:
    """One weights file, or several and their index."""
    # The ecosystem's rule measures the memory that a tensor is a view of: of experts that were fused, the first stands
    # for all of them, and the others follow it into its shard.
    items = [
        Item(name, tensor.untyped_storage().nbytes(), weights.storage_of(tensor))
        for name, tensor in model.tensors.items()
    ]
    plan = plan_shards(items, limit, WEIGHTS if safe else _BIN_NAMES[WEIGHTS])
    warnings: list[str] = []
    for file, names in plan.files.items():
        shard = {name: model.tensors[name] for name in names}
        warnings += _write_file(staged, file, shard, model.metadata, safe)
    if plan.is_sharded:
        staged.write(INDEX if safe else _BIN_NAMES[INDEX], encode_index(plan, model.total_parameters))
    return warnings


def _write_file(
    staged: Stage, name: str, content: Mapping[str, torch.Tensor], metadata: Mapping[str, str], safe: bool
) -> list[str]:
    if safe:
        shapes = [(key, tensors.dtype_name(key, value), tuple(value.shape)) for key, value in content.items()]
        head, header = lay_out(shapes, metadata)
        staged.write_tensors(name, head, header, lambda key: tensors.as_bytes(content[key]))
    else:
        pickled.write(staged.path / name.replace(ADAPTER_WEIGHTS, _BIN_NAMES[ADAPTER_WEIGHTS]), content)
    return [f"{key} has {found}" for key, value in content.items() if (found := tensors.not_finite(value))]
