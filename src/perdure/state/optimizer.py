"""An optimizer's state under the names of its parameters.

torch numbers the parameters: a model built in another order would silently be given the moments of other parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

_SHAPES = "parameter_shapes"  # what torch's own state_dict does not tell


def bare(optimizer: Any) -> Any:
    """The optimizer inside accelerate's wrapper."""
    inner = getattr(optimizer, "optimizer", None) if isinstance(optimizer, torch.optim.Optimizer) else None
    return bare(inner) if isinstance(inner, torch.optim.Optimizer) else optimizer


def state_dict(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Any]:
    """`optimizer.state_dict()` with names in place of numbers, and shapes; the tensors in it are the live ones.

    Args:
        names: `id` of a parameter → its name; one that has none there keeps its number.
    """
    state, named = optimizer.state_dict(), parameter_names(optimizer, names)
    return {
        **state,
        "state": {named[key] if isinstance(key, int) else key: value for key, value in state["state"].items()},
        "param_groups": [
            {**group, "params": [named[number] for number in group["params"]]} for group in state["param_groups"]
        ],
        _SHAPES: _shapes(optimizer, names),
    }


def load_state_dict(optimizer: torch.optim.Optimizer, state: dict[str, Any], names: Mapping[int, str]) -> None:
    """Load what `state_dict` returned, but for `reshaped` parameters; its tensors become the optimizer's own."""
    left_out = reshaped(optimizer, state, names)
    state = {key: value for key, value in state.items() if key != _SHAPES}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = {name: number for number, name in enumerate(parameter_names(optimizer, names))}
    numbered = {numbers.get(key, key): value for key, value in state["state"].items() if key not in left_out}
    groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in state["param_groups"]]
    optimizer.load_state_dict({**state, "state": numbered, "param_groups": groups})
    for number, values in numbered.items():
        if isinstance(number, int) and isinstance(values, dict):
            _undo_casts(optimizer.state[parameters[number]], values)


def reshaped(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Any], names: Mapping[int, str]
) -> dict[str, tuple[list[int], list[int]]]:
    """Name → shape then and now, of each parameter that has another one than when `state` was taken.

    torch compares no shapes: the step after would write moments of the old one beyond the parameter's memory.
    """
    then, now = state.get(_SHAPES, {}), _shapes(optimizer, names)
    return {name: (then[name], now[name]) for name in now if name in then and then[name] != now[name]}


def _shapes(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, list[int]]:
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return {
        name: list(parameter.shape)
        for name, parameter in zip(parameter_names(optimizer, names), parameters, strict=True)
    }


def _undo_casts(live: dict[str, Any], saved: dict[str, Any]) -> None:
    """torch gives loaded moments the parameter's dtype: float32 moments of a bfloat16 parameter would be rounded."""
    for key, value in saved.items():
        if isinstance(value, torch.Tensor) and live[key].dtype != value.dtype:
            live[key] = value.to(live[key].device)


def parameter_names(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> list[str]:
    """The names of an optimizer's parameters in its own order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [names.get(id(parameter), f"#{number}") for number, parameter in enumerate(parameters)]


def devices(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, torch.device]:
    """Name of a parameter → the device that it is on."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return dict(zip(parameter_names(optimizer, names), (parameter.device for parameter in parameters), strict=True))
