"""What a module's `state_dict` holds beside its parameters and buffers: `get_extra_state`, overrides, and hooks.

It goes back through the module's own `load_state_dict`, among all else that `state_dict` says, as its author meant.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from perdure.errors import StateMismatch
from perdure.state.memory import regions_of, view_of
from perdure.state.tree import Tensors, decode, encode

_log = logging.getLogger("perdure")
_ROOT = "$extra"  # no name of a parameter begins with it
_KEY = "_extra_state"


def extra_of(module: torch.nn.Module) -> dict[str, Any]:
    """Name in the state dict → value, of all that is not memory of a parameter or a buffer, nor a form of one."""
    speaking = [(name, part) for name, part in module.named_modules() if _says_more(part)]
    packed = tuple(f"{name}." for name, part in speaking if _is_packed(part))
    if len(packed) == len(speaking):
        return {}
    regions = regions_of(module)
    known = {name for region in regions for name in region.names}
    views = {view_of(region.tensor) for region in regions}
    return {
        name: value
        for name, value in module.state_dict().items()
        if name not in known
        and not name.startswith(packed)
        and not (isinstance(value, torch.Tensor) and value.layout == torch.strided and view_of(value) in views)
    }


def encode_extra(name: str, module: torch.nn.Module) -> tuple[Any, Tensors]:
    """`extra_of` a module as a document, None where there is nothing, and the tensors of it.

    Raises:
        InvalidInput: It holds something that cannot be expressed without pickle.
    """
    if not (extra := extra_of(module)):
        return None, {}
    document, tensors = encode({_ROOT: extra}, name)
    return document[_ROOT], tensors


def put_extra(name: str, module: torch.nn.Module, document: Any, tensors: Tensors) -> None:
    """Have a module take what `encode_extra` returned; its parameters and buffers stay as they are.

    Raises:
        StateMismatch: It refused.
    """
    try:
        _load(name, module, decode(document, lambda key, device: tensors[key]))
    except Exception as error:  # each class has its own way of refusing
        raise StateMismatch(
            f"{name} ({type(module).__name__}) does not take its saved state: {type(error).__name__}: {error}",
            hint="Resume with the code and the library versions that saved it.",
        ) from error


def _load(name: str, module: torch.nn.Module, extra: Mapping[str, Any]) -> None:
    live = {key: region.tensor for region in regions_of(module) for key in region.names}
    whole = {key: live.get(key, value) for key, value in module.state_dict().items()}
    whole.update(extra)
    if type(module).load_state_dict is not torch.nn.Module.load_state_dict:
        module.load_state_dict(whole)
        return
    refused = set(module.load_state_dict(whole, strict=False).unexpected_keys) & set(extra)
    if refused:
        _log.warning(
            "%s: its state_dict holds %s, which its load_state_dict does not take; it begins anew.",
            name, ", ".join(sorted(refused)),
        )  # fmt: skip


def extra_differences(module: torch.nn.Module, saved: Mapping[str, Any]) -> list[str]:
    """Which of the modules have an extra state here or in the checkpoint only, in words."""
    here = {name for name in extra_of(module) if name.endswith(_KEY)}
    there = {name for name in saved if name.endswith(_KEY)}
    missing = [f"{name} is not in the checkpoint" for name in sorted(here - there)]
    return missing + [f"{name} is in the checkpoint only" for name in sorted(there - here)]


def _says_more(part: torch.nn.Module) -> bool:
    kind, base = type(part), torch.nn.Module
    return bool(
        kind.get_extra_state is not base.get_extra_state
        or kind.state_dict is not base.state_dict
        or kind._save_to_state_dict is not base._save_to_state_dict
        or part._state_dict_hooks
        or part._state_dict_pre_hooks
    )


def _is_packed(part: torch.nn.Module) -> bool:
    """Whether it is a quantized layer, whose state dict says how its frozen weights are to be unpacked."""
    own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
    return any(tensor.ndim > 1 and not (tensor.is_floating_point() or tensor.requires_grad) for tensor in own)
