"""Which tensors, under which names, a saved model consists of: what `save_pretrained` of the same model writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from perdure.errors import InvalidInput
from perdure.format.shards import Item
from perdure.model.tensors import check_storable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Tensors to write, in order, with the file metadata and what is worth telling about them."""

    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str]
    total_parameters: int
    warnings: list[str] = field(default_factory=list)

    @property
    def items(self) -> list[Item]:
        """The tensors for the plan of shards, by the ecosystem's rule.

        It measures the memory that a tensor is a view of: of experts that were fused, the first stands for all of
        them, and the others follow it into its shard.
        """
        return [
            Item(name, tensor.untyped_storage().nbytes(), storage_of(tensor)) for name, tensor in self.tensors.items()
        ]


def unwrap(model: Any) -> Any:
    """The model inside DistributedDataParallel, DataParallel and torch.compile."""
    import torch

    while True:
        if isinstance(model, (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def is_transformers_model(model: Any) -> bool:
    """Whether `model` is a transformers `PreTrainedModel`, without importing transformers for one that is not."""
    return any(
        base.__name__ == "PreTrainedModel" and base.__module__.startswith("transformers.") for base in type(model).mro()
    )


def transformers_weights(model: Any, *, only_tensors: bool = False) -> Weights:
    """The tensors of a transformers model: ties removed, weight conversions reversed to the published names.

    Args:
        only_tensors: Leave out what else its state dict holds, instead of refusing it.

    Raises:
        InvalidInput: The model has no data, is sharded, or is quantized in a way that cannot be saved.
    """
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None and not quantizer.is_serializable():
        raise InvalidInput(
            f"The model is quantized with {quantizer.quantization_config.quant_method}, which cannot be saved; "
            "nothing was written.",
            hint="Save the adapter trained on it, or the model before quantization.",
        )
    state, metadata = quantizer.get_state_dict_and_metadata(model) if quantizer is not None else (None, {})
    state = dict(model.state_dict() if state is None else state)
    for ignored in model._keys_to_ignore_on_save or ():
        state.pop(ignored, None)
    state = {name: value for name, value in state.items() if not isinstance(value, str)}  # bitsandbytes' notes
    state = _tensors(state) if only_tensors else state
    check_storable(state)
    state = remove_tied_weights_from_state_dict(state, model)
    state = revert_weight_conversion(model, state)
    return Weights(tensors=state, metadata={**metadata, "format": "pt"}, total_parameters=model.num_parameters())


def module_weights(module: torch.nn.Module, *, untie: bool, only_tensors: bool = False) -> Weights:
    """The tensors of a plain module.

    Args:
        untie: Leave out all names but one of each shared tensor. The file's metadata then maps each name left out to
            the one written for it, so `safetensors.torch.load_model` reloads it tied. Tensors that share memory only
            in part are written each in full, and that is told.
        only_tensors: Leave out what else its state dict holds, instead of refusing it.
    """
    state: dict[str, torch.Tensor] = dict(module.state_dict())
    state = _tensors(state) if only_tensors else state
    check_storable(state)
    metadata, warnings = {"format": "pt"}, []
    for group in _groups(state, view_of).values() if untie else ():
        kept, *tied = sorted(group)
        for name in tied:
            metadata[name] = kept
            del state[name]
    for group in _groups(state, storage_of).values():
        if untie and _overlap(state, group):
            warnings.append(f"{', '.join(group)} share memory in part; each was written in full, reloading parts them")
    total = sum(parameter.numel() for parameter in module.parameters())
    return Weights(tensors=state, metadata=metadata, total_parameters=total, warnings=warnings)


def _tensors(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    import torch

    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _groups(
    state: Mapping[str, torch.Tensor], key: Callable[[torch.Tensor], tuple[object, ...]]
) -> dict[tuple[object, ...], list[str]]:
    groups: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name, tensor in state.items():
        if tensor.numel():
            groups[key(tensor)].append(name)
    return {key: names for key, names in groups.items() if len(names) > 1}


def storage_of(tensor: torch.Tensor) -> tuple[object, ...]:
    """What tells whether two tensors are views of one memory."""
    storage = tensor.untyped_storage()
    return str(tensor.device), storage.data_ptr(), storage.nbytes()


def view_of(tensor: torch.Tensor) -> tuple[object, ...]:
    """What tells whether two tensors are the same one under two names."""
    return str(tensor.device), tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _overlap(state: Mapping[str, torch.Tensor], names: list[str]) -> bool:
    spans = sorted((tensor.data_ptr(), _end(tensor)) for tensor in (state[name] for name in names))
    return any(start < end for (_, end), (start, _) in pairwise(spans))


def _end(tensor: torch.Tensor) -> int:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr() + (last + 1) * tensor.element_size()
