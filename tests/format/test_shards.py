from __future__ import annotations

import json

import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import InvalidInput
from perdure.format.shards import Item, encode_index, parse_size, plan_shards

SUFFIX = "model{suffix}.safetensors"


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 60))
def test_the_plan_is_the_ecosystems(sizes: list[int], limit: int) -> None:
    state = {f"t{number}": torch.zeros(size, dtype=torch.uint8) for number, size in enumerate(sizes)}
    theirs = split_torch_state_dict_into_shards(state, filename_pattern=SUFFIX, max_shard_size=limit)
    items = [Item(name, size.numel(), None if size.numel() else "empty") for name, size in state.items()]
    ours = plan_shards(items, limit, "model.safetensors")
    # As sets: within a file the header's own order counts, not the plan's.
    assert {file: set(names) for file, names in ours.files.items()} == {
        file: set(names) for file, names in theirs.filename_to_tensors.items()
    }
    assert ours.total_size == theirs.metadata["total_size"]


def test_views_of_one_memory_stay_together() -> None:
    base = torch.zeros(10, dtype=torch.uint8)
    state = {"a": base[:5], "x": torch.zeros(8, dtype=torch.uint8), "b": base[5:]}
    theirs = split_torch_state_dict_into_shards(state, filename_pattern=SUFFIX, max_shard_size=10)
    ours = plan_shards([Item("a", 5, 1), Item("x", 8, 2), Item("b", 5, 1)], 10, "model.safetensors")
    assert {file: list(names) for file, names in ours.files.items()} == theirs.filename_to_tensors


def test_index() -> None:
    plan = plan_shards([Item("a", 6), Item("b", 6)], 10, "model.safetensors")
    index = json.loads(encode_index(plan, 3))
    assert index["metadata"] == {"total_parameters": 3, "total_size": 12}
    assert index["weight_map"] == {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors",
    }


def test_nothing_is_one_empty_file() -> None:
    assert plan_shards([], 10, "model.safetensors").files == {"model.safetensors": []}


def test_sizes() -> None:
    assert [parse_size(size) for size in ("5GB", "500MB", "1.5 kb", "2GiB", 7)] == [
        5 * 10**9,
        5 * 10**8,
        1500,
        2**31,
        7,
    ]
    for wrong in ("", "GB", "5XB", "-1", 0, -3, 1.5, None, True, "0MB"):
        with pytest.raises(InvalidInput, match="max_shard_size"):
            parse_size(wrong)  # type: ignore[arg-type]
