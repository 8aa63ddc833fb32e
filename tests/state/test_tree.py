from __future__ import annotations

import json
import math
import struct
from collections import Counter, OrderedDict
from enum import Enum
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import InvalidInput
from perdure.state.tree import decode, encode, tensor_devices

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
keys = st.text() | st.integers() | st.tuples(st.integers(), st.text()) | st.just("$") | st.floats(allow_nan=False)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4).map(OrderedDict)
        | st.sets(st.integers(), max_size=4)
        | st.dictionaries(st.integers(), st.integers(), max_size=3).map(Counter)
    ),
    max_leaves=20,
)


def there_and_back(value: object) -> Any:
    document, tensors = encode(value, "value")
    text = json.dumps(document, allow_nan=False)
    return decode(json.loads(text), lambda name, device: tensors[name])


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, in types and in the order of maps, too."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, dict):
        return same([list(pair) for pair in one.items()], [list(pair) for pair in other.items()])
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, (np.ndarray, np.generic)):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other)


@given(values)
def test_any_nest_of_plain_values_comes_back_as_it_was(value: object) -> None:
    assert same(there_and_back(value), value)


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6).reshape(2, 3),
        torch.tensor(2.5, dtype=torch.bfloat16),
        np.arange(6, dtype=np.uint32).reshape(2, 3),
        np.float64(0.1),
        np.int64(-3),
        np.array(7),
        torch.bfloat16,
        torch.device("cpu"),
        torch.Size([2, 3]),
        frozenset({1, 2}),
        -math.inf,
        2**200,
        {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, "__metadata__": torch.zeros(2)},
    ],
    ids=str,
)
def test_what_training_holds_comes_back_as_it_was(value: object) -> None:
    assert same(there_and_back(value), value)


def test_one_tensor_in_two_places_is_one_again() -> None:
    shared = torch.zeros(3)
    back = there_and_back({"a": shared, "b": [shared]})
    assert back["a"] is back["b"][0]


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    "thing",
    [object(), lambda: 0, partial(int), Colour.RED, SimpleNamespace(), np.array(["text"]), {"set": {object()}.pop()}],
    ids=lambda thing: type(thing).__name__,
)
def test_what_only_pickle_could_hold_is_refused_by_name(thing: object) -> None:
    with pytest.raises(InvalidInput, match=r"sampler: hooks\.1\.fn.*nothing was written"):
        encode({"hooks": [0, {"fn": thing}]}, "sampler")


def test_what_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(InvalidInput, match="holds itself"):
        encode(endless, "sampler")


@pytest.mark.parametrize(
    "document", [{"$": "os.system", "items": ["true"]}, {"$": "tuple"}, {"$": "dtype", "name": "load"}]
)
def test_a_tag_that_we_do_not_write_is_refused(document: object) -> None:
    with pytest.raises((ValueError, KeyError)):
        decode(document, lambda name, device: torch.empty(0))


def test_devices_of_tensors_are_told() -> None:
    document, _ = encode({"a": [torch.zeros(1)], "b": np.zeros(1)}, "x")
    assert tensor_devices(document) == {"a.0": "cpu", "b": "cpu"}


@pytest.mark.parametrize("name", [0, None, "no such device", ["cpu"]])
def test_what_names_no_device_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="names no device"):
        decode({"$": "device", "name": name}, lambda name, device: torch.empty(0))
