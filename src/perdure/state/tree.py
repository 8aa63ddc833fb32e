"""Nested Python values as JSON and tensors, exactly, and without pickle.

Numbers, text, None, lists and maps with text keys stand as themselves. What JSON does not know is an object with the
key `$`: `{"$": "tuple", "items": […]}`. Tensors and NumPy arrays go by name into a safetensors file beside the JSON.
A value that is none of these is refused, by name: nothing is written that could not be read back as it was.
"""

from __future__ import annotations

import base64
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from perdure.errors import InvalidInput

Tensors = dict[str, torch.Tensor]

_TAG = "$"
_MAX_DEPTH = 200
_EXACT = 2**53  # beyond, JSON readers of other languages round integers
_TENSORS = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


def encode(value: object, where: str) -> tuple[Any, Tensors]:
    """A value as a JSON document, and the tensors in it by name; the tensors are not copied.

    Args:
        where: What the value is, for the error: "scheduler".

    Raises:
        InvalidInput: It holds something that cannot be expressed; the message names it.

    >>> document, tensors = encode({"lr": 0.1, "betas": (0.9, 0.99), "m": torch.zeros(2)}, "optimizer")
    >>> document["betas"], list(tensors)
    ({'$': 'tuple', 'items': [0.9, 0.99]}, ['m'])
    """
    encoder = _Encoder(where)
    return encoder.encode(value, ()), encoder.tensors


class _Encoder:
    def __init__(self, where: str) -> None:
        self.tensors: Tensors = {}
        self._where = where
        self._names: dict[int, str] = {}

    def encode(self, value: Any, path: tuple[str, ...]) -> Any:
        if len(path) > _MAX_DEPTH:
            raise self._refused("is nested too deeply, or holds itself", path[:6])
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            return value if -_EXACT <= value <= _EXACT else {_TAG: "int", "hex": hex(value)}
        if kind is float:
            return value if value - value == 0 else {_TAG: "float", "bits": struct.pack(">d", value).hex()}
        if kind is list:
            return self._items(value, path)
        if kind is dict and _TAG not in value and all(type(key) is str for key in value):
            return {key: self.encode(item, (*path, key)) for key, item in value.items()}
        if kind in _TENSORS:
            return {_TAG: "tensor", "name": self._name(value, path), "device": value.device.type}
        return self._tagged(value, path)

    def _tagged(self, value: Any, path: tuple[str, ...]) -> Any:
        for name, kind in _SEQUENCES.items():
            if type(value) is kind:
                return {_TAG: name, "items": self._items(value, path)}
        for name, kind in _MAPS.items():
            if type(value) is kind:
                keys = [self.encode(key, (*path, "a key")) for key in value]
                items = [self.encode(item, (*path, _short(key))) for key, item in value.items()]
                return {_TAG: name, "items": [list(pair) for pair in zip(keys, items, strict=True)]}
        if type(value) is bytes:
            return {_TAG: "bytes", "base64": base64.b64encode(value).decode()}
        if type(value) is complex:
            return {_TAG: "complex", "parts": self._items((value.real, value.imag), path)}
        if isinstance(value, torch.dtype):
            return {_TAG: "dtype", "name": str(value).removeprefix("torch.")}
        if type(value) is torch.device:
            return {_TAG: "device", "name": str(value)}
        if type(value) is np.ndarray or isinstance(value, np.generic):
            return {_TAG: "scalar" if isinstance(value, np.generic) else "array", "name": self._array(value, path)}
        raise self._refused(f"is {_described(value)}, which cannot be expressed without pickle", path)

    def _items(self, values: Iterable[object], path: tuple[str, ...]) -> list[Any]:
        return [self.encode(value, (*path, str(number))) for number, value in enumerate(values)]

    def _array(self, value: Any, path: tuple[str, ...]) -> str:
        array = np.asarray(value)
        try:
            tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
        except TypeError:
            raise self._refused(f"is a NumPy array of {array.dtype}, which safetensors cannot hold", path) from None
        return self._name(tensor, path)

    def _name(self, tensor: torch.Tensor, path: tuple[str, ...]) -> str:
        known = self._names.get(id(tensor))
        if known is not None and self.tensors[known] is tensor:
            return known
        name = wanted = ".".join(path) or "value"
        number = 1
        while name in self.tensors or name == "__metadata__":
            number += 1
            name = f"{wanted}#{number}"
        self.tensors[name] = tensor
        self._names[id(tensor)] = name
        return name

    def _refused(self, what: str, path: tuple[str, ...]) -> InvalidInput:
        name = ": ".join(filter(None, (self._where, ".".join(path))))
        return InvalidInput(
            f"{name} {what}; nothing was written.",
            hint="Keep it out of state_dict(), or turn it into numbers, text, lists, maps or tensors there.",
        )


def decode(document: Any, tensor: Callable[[str, str], torch.Tensor]) -> Any:
    """The value that `encode` made a document of.

    Args:
        tensor: Name and device type of a tensor → the tensor.

    Raises:
        ValueError, KeyError, TypeError: It is not such a document.
    """

    def value_of(node: Any) -> Any:
        if isinstance(node, list):
            return [value_of(item) for item in node]
        if not isinstance(node, dict):
            return node
        tag = node.get(_TAG)
        if tag is None:
            return {key: value_of(item) for key, item in node.items()}
        if tag == "tensor":
            return tensor(node["name"], node["device"])
        if tag in ("array", "scalar"):
            array = tensor(node["name"], "cpu").numpy()
            return array[()] if tag == "scalar" else array
        if tag in _SEQUENCES:
            return _SEQUENCES[tag](value_of(node["items"]))
        if tag in _MAPS:
            return _MAPS[tag]({value_of(key): value_of(item) for key, item in node["items"]})
        return _LEAVES[tag](node)

    return value_of(document)


_SEQUENCES: Mapping[str, Callable[[Any], Any]] = {
    "tuple": tuple, "set": set, "frozenset": frozenset, "size": torch.Size,
}  # fmt: skip
_MAPS: Mapping[str, Callable[[Any], Any]] = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
_LEAVES: Mapping[str, Callable[[Any], Any]] = {
    "int": lambda node: int(node["hex"], 16),
    "float": lambda node: struct.unpack(">d", bytes.fromhex(node["bits"]))[0],
    "bytes": lambda node: base64.b64decode(node["base64"], validate=True),
    "complex": lambda node: complex(*(decode(part, _no_tensor) for part in node["parts"])),
    "dtype": lambda node: _dtype(node["name"]),
    "device": lambda node: _device(node["name"]),
}


def _device(name: Any) -> torch.device:
    if type(name) is not str:  # a number would be a device of whatever accelerator is there
        raise ValueError(f"{name!r} names no device")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} names no device") from error


def tensor_devices(document: Any) -> dict[str, str]:
    """Name → device type of every tensor that a document refers to; an array's device is the CPU."""
    found: dict[str, str] = {}
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if node.get(_TAG) in ("tensor", "array", "scalar"):
                found[str(node["name"])] = str(node.get("device", "cpu"))
            else:
                waiting += node.values()
    return found


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is not a dtype")  # noqa: TRY004 - a damaged document, whatever the type
    return dtype


def _no_tensor(name: str, device: str) -> torch.Tensor:
    raise ValueError(f"a tensor, {name!r}, where none can be")


def _short(key: object) -> str:
    return str(key)[:80]


def _described(value: object) -> str:
    kind = type(value)
    known_as = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"a {known_as}"
