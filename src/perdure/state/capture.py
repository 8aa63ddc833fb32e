"""State → parts: what of each component is to be written, and which of it may be copied later.

Trained state is constant from the end of one optimizer step to the beginning of the next. So parameters and optimizer
moments are only referred to (`Part.live`); all else is copied here and now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from perdure.state import optimizer as optimizers
from perdure.state.base import base_of, changed, fingerprints
from perdure.state.extra import encode_extra
from perdure.state.loader import is_ordinary, track
from perdure.state.memory import as_document, regions_of, settle
from perdure.state.state import State
from perdure.state.tree import Tensors, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One component as it is to be written: a JSON document and tensors.

    Attributes:
        type: The name of the component's class, so that another is not mistaken for it.
        live: Tensors that training changes no sooner than at the next optimizer step.
        copied: Tensors that are the checkpoint's own.
        warnings: What is worth telling the user.
    """

    name: str
    type: str
    document: Any
    live: Mapping[str, torch.Tensor]
    copied: Mapping[str, torch.Tensor]
    warnings: tuple[str, ...] = ()


def parameter_names(state: State, bare: Callable[[Any], torch.nn.Module]) -> dict[int, str]:
    """`id` of a parameter → its name, with the component's in front where that is not `model`.

    Args:
        bare: Takes a module out of its wrappers (DistributedDataParallel, torch.compile).
    """
    return {
        id(parameter): name if component == "model" else f"{component}.{name}"
        for component, module in reversed(list(state.modules()))
        for name, parameter in bare(module).named_parameters()
    }


def capture(name: str, component: Any, names: Mapping[int, str]) -> Part:
    """One component that is not a module.

    Raises:
        InvalidInput: It holds something that cannot be expressed without pickle.
    """
    inner = optimizers.bare(component)
    known_as = type(inner).__name__
    if isinstance(inner, torch.optim.Optimizer):
        document, tensors = encode(optimizers.state_dict(inner, names), name)
        live = {key: tensor.detach() for key, tensor in tensors.items() if key.startswith("state.")}
        rest = {key: tensor for key, tensor in tensors.items() if key not in live}
        return Part(name=name, type=known_as, document=document, live=live, copied=_copies(rest))
    source = track(component) if is_ordinary(component) else component
    document, tensors = encode(source.state_dict(), name)
    return Part(name=name, type=known_as, document=document, live={}, copied=_copies(tensors))


def capture_module(
    name: str,
    module: torch.nn.Module,
    kind: str,
    saved: Mapping[str, torch.Tensor],
    about: Mapping[str, Any] = MappingProxyType({}),
) -> Part:
    """What of a module is not among the tensors `saved` elsewhere, and where those belong.

    Args:
        kind: What is saved elsewhere: "adapter" lets frozen parameters out, which the base model brings; the document
            then says which base that is.
        about: What else the document is to say.
    """
    regions = regions_of(module)
    left = settle(regions, saved)
    unused = set(saved).difference(*(region.places for region in regions))
    document: dict[str, Any] = {
        **about,
        "kind": kind,
        "places": as_document(regions),
        "unused": sorted(unused),
    }
    warnings: tuple[str, ...] = ()
    if kind == "adapter":
        base = base_of(module, regions)
        frozen = [region for region in left if region.names[0] in base]
        left = [region for region in left if region.names[0] not in base]
        document["base"] = {region.names[0]: base[region.names[0]] for region in frozen}
        warnings = _drift(document["base"], fingerprints(frozen))
    live = {region.names[0]: region.tensor for region in left if not region.buffer}
    copied = {region.names[0]: region.tensor for region in left if region.buffer}
    extra, tensors = encode_extra(name, module)
    if extra is not None:
        document["extra"] = extra
        copied.update(tensors)
    return Part(
        name=name, type=type(module).__name__, document=document, live=live, copied=_copies(copied), warnings=warnings
    )


def _drift(began: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    if not (moved := changed(began, now)):
        return ()
    return (
        f"the frozen base is no longer what the run began with ({len(moved)} of {len(began)} tensors, {moved[0]} among "
        "them), and the checkpoints of an adapter do not hold it: a resumed run will not be exactly this one",
    )


def _copies(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
