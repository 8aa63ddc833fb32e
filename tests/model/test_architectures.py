"""What is written equals, byte for byte, what `save_pretrained` of the same model writes, and reloads whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from zoo import ARCHITECTURES, build

import perdure

SHARD = 8_000  # bytes: several shards for every model, and in some of them tensors that are larger


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_save_pretrained(name: str, tmp_path: Path) -> None:
    model = build(name)
    assert model.num_parameters() < 1_000_000
    for limit in (10**9, SHARD):
        theirs, ours = tmp_path / f"theirs-{limit}", tmp_path / f"ours-{limit}"
        model.save_pretrained(theirs, max_shard_size=limit)
        saved = perdure.save_model(model, ours, max_shard_size=limit)
        assert saved.kind == "model"
        assert not saved.warnings
        assert weights_of(ours) == weights_of(theirs)
    assert len(weights_of(ours)) > 2, "sharded: two files and an index at least"
    assert reloaded(model, ours) == reloaded(model, theirs)


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "llava", "qwen2_5_vl", "t5", "llama-tied", "bert-classifier"])
def test_a_model_that_was_loaded_and_converted_is_written_the_same_way(name: str, tmp_path: Path) -> None:
    model = build(name)
    model.save_pretrained(tmp_path / "published")
    loaded = type(model).from_pretrained(tmp_path / "published", dtype=torch.bfloat16)
    loaded.save_pretrained(tmp_path / "theirs", max_shard_size=SHARD)
    perdure.save_model(loaded, tmp_path / "ours", max_shard_size=SHARD)
    assert weights_of(tmp_path / "ours") == weights_of(tmp_path / "theirs")


def weights_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors*")}


def reloaded(model: Any, folder: Path) -> list[str]:
    """Load `folder` into a new model, compare it with `model`, and return the names that tied weights share."""
    again, info = type(model).from_pretrained(folder, output_loading_info=True)
    assert not {key: names for key, names in info.items() if names}
    expected, state = model.state_dict(), again.state_dict()
    assert expected.keys() == state.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, state[name]), name
        assert tensor.dtype == state[name].dtype, name
    places: dict[int, str] = {}
    return [
        f"{places.setdefault(tensor.data_ptr(), name)} = {name}" for name, tensor in state.items() if tensor.numel()
    ]
