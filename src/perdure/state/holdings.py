"""What a loader's samplers, dataset and collate function hold that changes as they are used.

Generators of their own, numbers that they count with, and objects that tell their state: whatever their attributes
show, down to a bounded depth. Nothing of theirs is called but `state_dict` and `load_state_dict`.
"""

from __future__ import annotations

import copy
import functools
import logging
import random
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from perdure.state import rng
from perdure.state.streams import is_stream

_log = logging.getLogger("perdure")
_DEPTH, _PARTS, _ITEMS = 6, 256, 32  # beyond, nothing is looked for: datasets can hold anything
_COUNTERS = ("epoch", "iteration", "initial_seed")  # of loaders and samplers, accelerate's too
_OF_LOADER = ("generator", "synchronized_generator", "batch_sampler", "sampler")
_NUMBERS = (int, float, bool)
_LEAVES = (
    type(None), int, float, complex, str, bytes, type, types.ModuleType,
    torch.Tensor, np.ndarray, torch.optim.Optimizer,
)  # fmt: skip

Held = dict[str, Any]
"""`generators`, `counters` and `states`, each by path: "loader.sampler.rng"."""


class Weak(weakref.ref[Any]):
    """A root that holds what looks into it; a copy of both refers to the copy."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Weak:
        return Weak(copy.deepcopy(self(), memo))


class Holdings:
    """What `roots` hold, by path.

    A number is taken to count something when it is not what it was at first.

    Args:
        roots: Objects, or a `Weak` one.
        first: The numbers as they were at first; as they are now, if it is not given.
        apart: Objects that are not looked into.
    """

    def __init__(
        self,
        roots: Mapping[str, Any],
        first: Mapping[str, Mapping[str, Any]] | None = None,
        apart: tuple[object, ...] = (),
    ) -> None:
        self._roots = {name: root for name, root in roots.items() if root is not None}
        self._apart = apart
        self._told = first is not None  # whoever knows them as they were at first has told of them
        self.first = dict(first) if first is not None else {path: _numbers(part) for path, part in self.parts()}

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Path and object, of all that is found."""
        waiting = deque((name, root() if isinstance(root, Weak) else root) for name, root in self._roots.items())
        seen = {id(part) for part in self._apart}
        while waiting and len(seen) < _PARTS:
            path, part = waiting.popleft()
            if id(part) not in seen:
                seen.add(id(part))
                yield path, part
                if path.count(".") < _DEPTH:
                    waiting.extend((f"{path}.{name}", child) for name, child in _children(part))
        beyond = next((path for path, part in waiting if id(part) not in seen), None)
        if beyond is not None and not self._told:
            self._told = True
            _log.warning(
                "%s holds more than the %d objects in which perdure looks for what changes. If %s, or what comes after "
                "it, draws random numbers or counts, a resumed run goes on otherwise. Give what holds it state_dict "
                "and load_state_dict.",
                beyond.partition(".")[0], _PARTS, beyond,
            )  # fmt: skip

    def state(self) -> Held:
        """As it is now; later changes do not reach it."""
        held: Held = {"generators": {}, "counters": {}, "states": {}}
        for path, part in self.parts():
            if (look := _generator_state(part)) is not None:
                held["generators"][path] = look
            elif has_state(part):
                held["states"][path] = copy.deepcopy(part.state_dict())
            elif counters := self._counters(path, part):
                held["counters"][path] = counters
        return held

    def restore(self, held: Held, *, only_generators: bool = False) -> None:
        """Put `state` back into what is found under the same paths."""
        generators = dict(held["generators"])
        for path, part in self.parts():
            if path in generators:
                _set_generator(part, generators.pop(path))
            elif only_generators:
                continue
            elif path in held.get("states", {}):
                part.load_state_dict(copy.deepcopy(held["states"][path]))
            elif (saved := held["counters"].get(path)) is not None:
                here = vars(part)
                here.update({name: value for name, value in saved.items() if type(here.get(name, value)) in _NUMBERS})
        mine = [path for path in generators if path.partition(".")[0] in self._roots]
        for path in mine:
            self._give(path, generators[path])

    def _give(self, path: str, state: Any) -> None:
        """A generator to an object that makes it only when it is first used."""
        owner, _, name = path.rpartition(".")
        part = dict(self.parts()).get(owner)
        if part is not None and hasattr(part, "__dict__") and vars(part).get(name) is None:
            vars(part)[name] = _generator(state)

    def _counters(self, path: str, part: Any) -> dict[str, Any]:
        numbers = _numbers(part)
        first = self.first.setdefault(path, numbers)
        return {name: value for name, value in numbers.items() if name in _COUNTERS or value != first.get(name)}


def has_state(part: object) -> bool:
    """Whether an object can tell where it stands, and go on from there; no module, and no loader itself, is meant.

    Nor is one of Hugging Face's streams, which `perdure.state.streams` tells of.
    """
    return not (issubclass(type(part), torch.nn.Module) or _is_loader(part) or is_stream(part)) and all(
        callable(getattr(type(part), name, None)) for name in ("state_dict", "load_state_dict")
    )


def _is_loader(part: object) -> bool:
    return issubclass(type(part), DataLoader) or "base_dataloader" in getattr(part, "__dict__", {})  # accelerate's


def _numbers(part: Any) -> dict[str, Any]:
    names = _COUNTERS if _is_loader(part) else None
    return {
        name: value
        for name, value in getattr(part, "__dict__", {}).items()
        if type(value) in _NUMBERS and (names is None or name in names)
    }


def _children(part: Any) -> Iterator[tuple[str, Any]]:
    kind = type(part)
    found: list[tuple[str, Any]] = []
    if _is_generator(part) or has_state(part) or is_stream(part):
        return
    if _is_loader(part):
        found = [(name, vars(part).get(name)) for name in _OF_LOADER]
    elif kind in (list, tuple, deque):
        found = [(str(number), item) for number, item in enumerate(part)] if len(part) <= _ITEMS else []
    elif kind is dict:
        found = [(str(key), item) for key, item in part.items()] if len(part) <= _ITEMS else []
    elif kind is functools.partial:
        found = [("func", part.func), ("args", part.args), ("keywords", part.keywords)]
    elif kind is types.MethodType:
        found = [("__self__", part.__self__)]
    elif kind is types.FunctionType:
        found = _closed_over(part)
    elif isinstance(attributes := getattr(part, "__dict__", None), dict):
        found = list(attributes.items())
    yield from ((name, child) for name, child in found if not issubclass(type(child), _LEAVES))


def _closed_over(function: types.FunctionType) -> list[tuple[str, Any]]:
    found = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it is empty
            found.append((name, cell.cell_contents))
    return found


_KINDS: tuple[tuple[type, Callable[[Any], Any], Callable[[Any, Any], object]], ...] = (
    (torch.Generator, lambda one: one.get_state().numpy(), lambda one, state: one.set_state(torch.as_tensor(state))),
    (random.Random, lambda one: rng.packed(one.getstate()), lambda one, state: one.setstate(rng.unpacked(state))),
    (np.random.RandomState, lambda one: one.get_state(legacy=False), lambda one, state: one.set_state(state)),
    (
        np.random.Generator,
        lambda one: {"generator": one.bit_generator.state},
        lambda one, state: setattr(one.bit_generator, "state", state["generator"]),
    ),
)


def _is_generator(part: Any) -> bool:
    return not isinstance(part, random.SystemRandom) and issubclass(type(part), tuple(kind for kind, _, _ in _KINDS))


def _generator_state(part: Any) -> Any:
    if not _is_generator(part):
        return None
    return next(copy.deepcopy(look(part)) for kind, look, _ in _KINDS if isinstance(part, kind))


def _set_generator(part: Any, state: Any) -> None:
    if _is_generator(part):
        next(put for kind, _, put in _KINDS if isinstance(part, kind))(part, state)


def _generator(state: Any) -> Any:
    """A new generator in a state."""
    if isinstance(state, dict) and "generator" in state:
        name = str(state["generator"]["bit_generator"])
        if name not in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
            raise ValueError(f"{name!r} is no generator of NumPy's")
        made: Any = np.random.Generator(getattr(np.random, name)())
    elif isinstance(state, dict):
        made = np.random.RandomState()
    else:
        made = random.Random() if isinstance(state, (tuple, list)) else torch.Generator()
    _set_generator(made, state)
    return made
