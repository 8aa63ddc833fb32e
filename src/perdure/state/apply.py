"""Saved parts → State: what does not fit is told before anything is changed, then each component takes its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from perdure.errors import StateMismatch
from perdure.state import optimizer as optimizers
from perdure.state import rng
from perdure.state.capture import capture
from perdure.state.loader import is_ordinary, track
from perdure.state.state import RNG
from perdure.state.tree import Tensors, decode

# What a bare `load_state_dict` would take without a word, whatever keys it has.
_SAME_KEYS = (torch.optim.lr_scheduler.LRScheduler, torch.amp.grad_scaler.GradScaler)


@runtime_checkable
class Comparable(Protocol):
    """A component that knows in what a saved state of it differs."""

    def differences(self, document: Any) -> list[str]:
        """In what the saved state differs, in words; `document` is what `encode` made of it."""


def differences(name: str, component: Any, type_: str, document: Any, names: Mapping[int, str]) -> list[str]:
    """In what a component that is not a module differs from the saved one, in words; empty when it may be loaded."""
    inner = optimizers.bare(component)
    if name == RNG:
        used, there_are = len(document["cuda"]), rng.device_count()
        return [f"the run used {used} CUDA devices, and {there_are} are here"] if used not in (0, there_are) else []
    if type(inner).__name__ != type_:
        return [f"{name} was a {type_}, and is a {type(inner).__name__}"]
    if isinstance(inner, torch.optim.Optimizer):
        saved_groups = [group["params"] for group in document["param_groups"]]
        numbered = iter(optimizers.parameter_names(inner, names))
        here_groups = [[next(numbered) for _ in group["params"]] for group in inner.param_groups]
        return _group_differences(name, saved_groups, here_groups)
    if is_ordinary(component):
        saved, here = document.get("about", {}), track(component).about()
        return [
            f"{name}: {key} was {saved.get(key)}, and is {here.get(key)}" for key in here if here[key] != saved.get(key)
        ]
    if isinstance(component, Comparable):
        return component.differences(document)
    if isinstance(component, _SAME_KEYS):
        saved_keys, keys = set(document), set(component.state_dict())
        missing = [f"{name} has {key}, which the checkpoint has not" for key in sorted(keys - saved_keys)]
        return missing + [f"{name} has no {key}, which the checkpoint has" for key in sorted(saved_keys - keys)]
    return []


def left_out(name: str, component: Any, document: Any, names: Mapping[int, str]) -> list[str]:
    """What of a saved component without `differences` the live one cannot take, and goes on without; in words."""
    inner = optimizers.bare(component)
    if not isinstance(inner, torch.optim.Optimizer):
        return []
    return [
        f"{name} cannot take its state of {parameter}, which had the shape {then} and has {now}"
        for parameter, (then, now) in optimizers.reshaped(inner, document, names).items()
    ]


def _group_differences(name: str, saved: list[list[str]], here: list[list[str]]) -> list[str]:
    if len(saved) != len(here):
        return [f"{name} had {len(saved)} parameter groups, and has {len(here)}"]
    for number, (old, new) in enumerate(zip(saved, here, strict=True)):
        if old != new:
            gone = [f"{name} does not have {one}, which was in its group {number}" for one in old if one not in new]
            come = [f"{name} has {one}, which was not in its group {number}" for one in new if one not in old]
            return gone + come or [f"{name} has the parameters of its group {number} in another order"]
    return []


def targets(
    component: Any,
    saved: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    devices: Mapping[str, str],
    names: Mapping[int, str],
) -> Tensors:
    """Tensors for saved ones to be read into: an optimizer's own where it has them, new ones elsewhere.

    Args:
        saved: Name → dtype and shape.
        devices: Name → type of the device that it was on.
    """
    inner = optimizers.bare(component)
    if not isinstance(inner, torch.optim.Optimizer):
        return {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in saved.items()}
    own = capture("", inner, names).live
    where = optimizers.devices(inner, names)
    found: Tensors = {}
    for name, (dtype, shape) in saved.items():
        mine = own.get(name)
        if mine is None or mine.dtype != dtype or mine.shape != shape:
            device = _device(name, where) if devices[name] != "cpu" else torch.device("cpu")
            mine = torch.empty(shape, dtype=dtype, device=device)
        found[name] = mine
    return found


def _device(name: str, devices: Mapping[str, torch.device]) -> torch.device:
    """The device of the parameter that a tensor called `state.PARAMETER.KEY` belongs to, or of the first one."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 1, -1):
        if (device := devices.get(".".join(parts[1:end]))) is not None:
            return device
    return next(iter(devices.values()))


def apply(name: str, component: Any, document: Any, tensors: Tensors, names: Mapping[int, str]) -> None:
    """Have a component take its saved state.

    Raises:
        StateMismatch: It refused.
    """
    inner = optimizers.bare(component)
    load: Callable[[Any], object]
    if isinstance(inner, torch.optim.Optimizer):
        optimizer = inner
        load = lambda value: optimizers.load_state_dict(optimizer, value, names)  # noqa: E731
    else:
        load = (track(component) if is_ordinary(component) else component).load_state_dict
    value = decode(document, lambda key, device: tensors[key])
    try:
        load(value)
    except Exception as error:  # each class has its own way of refusing
        raise StateMismatch(
            f"{name} ({type(inner).__name__}) does not take its saved state: {type(error).__name__}: {error}",
            hint="Resume with the code and the library versions that saved it, or leave it out of State.",
        ) from error
