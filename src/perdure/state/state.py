"""`State`: what a run consists of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch

from perdure.errors import InvalidInput
from perdure.state import loader, rng
from perdure.state.accelerate import components_of
from perdure.state.optimizer import bare

RNG = "rng"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


class _Generators:
    """The random number generators, as a component like any other."""

    state_dict = staticmethod(rng.state)
    load_state_dict = staticmethod(rng.set_state)


class State:
    """Everything that a checkpoint of a run holds, by name; the random number generators are always among it.

    A component is a `torch.nn.Module`, a `torch.utils.data.DataLoader` (bare, accelerate's, or one with a state of its
    own), or anything else with `state_dict` and `load_state_dict`: optimizers, schedulers, a gradient scaler, your own.
    `model` is the one whose files make the checkpoint a model folder. A component that is None is left out.

    An ordinary DataLoader is made to count the batches that training takes from it, from here on.

    Raises:
        InvalidInput: A component's state cannot be had.

    Example:
        >>> state = State(model=model, optimizer=optimizer, scheduler=scheduler, loader=loader)  # doctest: +SKIP
    """

    def __init__(self, **components: Any) -> None:
        found: dict[str, Any] = {}
        for name, component in components.items():
            if name == RNG or not _NAME.fullmatch(name):
                raise InvalidInput(f"{name!r} cannot be the name of a component of State.", hint="Choose another.")
            if component is not None:
                found[name] = _checked(name, component)
        if not found:
            raise InvalidInput("State() holds nothing.", hint="Give it at least a model: State(model=model, …)")
        self.components = MappingProxyType({**found, RNG: _Generators()})

    @classmethod
    def from_accelerator(cls, accelerator: Any, **extra: Any) -> State:
        """What an `accelerate.Accelerator` has prepared: models, optimizers, schedulers, loaders, the gradient scaler.

        What was registered with `register_for_checkpointing` is among it, and where gradients are being accumulated.
        The first of a kind is called `model`, `optimizer`, `scheduler`, `loader`, `custom`; the second `model_2`.

        Args:
            extra: Further components, by name.

        Raises:
            InvalidInput: Nothing was prepared; the model is spread over processes; a component's state cannot be had;
                or several processes were launched that know nothing of each other, which `Accelerator(cpu=True)` mends.

        Example:
            >>> model, optimizer, loader = accelerator.prepare(model, optimizer, loader)  # doctest: +SKIP
            >>> state = State.from_accelerator(accelerator)  # doctest: +SKIP
        """
        found = components_of(accelerator)
        if twice := set(extra) & set(found):
            raise InvalidInput(f"The Accelerator has a component called {min(twice)}, too.", hint="Rename yours.")
        return cls(**found, **extra)

    def modules(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """The components that are modules."""
        return ((name, part) for name, part in self.components.items() if isinstance(part, torch.nn.Module))

    def optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        """The components that are optimizers of torch, taken out of accelerate's wrapper."""
        for name, part in self.components.items():
            if isinstance(inner := bare(part), torch.optim.Optimizer):
                yield name, inner

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={type(part).__name__}" for name, part in self.components.items() if name != RNG)
        return f"State({parts})"


def _checked(name: str, component: Any) -> Any:
    if loader.is_ordinary(component):
        if component.num_workers and not getattr(component, "in_order", True):
            raise InvalidInput(
                f"{name} yields batches in whatever order its workers finish, so no run can resume exactly.",
                hint="Make it with in_order=True, or leave it out of State.",
            )
        loader.track(component)
        return component
    if not all(callable(getattr(component, method, None)) for method in ("state_dict", "load_state_dict")):
        raise InvalidInput(
            f"{name} is a {type(component).__name__}, which has no state_dict and load_state_dict.",
            hint=f"Pass the object itself, not its state_dict(): State({name}={name}, …)"
            if isinstance(component, Mapping)
            else "Leave it out of State, or give it the two methods.",
        )
    return component
