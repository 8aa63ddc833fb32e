"""Plain modules: ties, views, dtypes, configurations; what is written reloads with safetensors' own functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model
from safetensors.torch import save_model as reference_save

import perdure


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(8, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.head = torch.nn.Linear(4, 8, bias=False)
        self.head.weight = self.embed.weight


class Buffers(torch.nn.Module):
    """Holds any tensors at all."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


def test_tied_weights_are_written_once_and_reload_tied(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tied()
    saved = perdure.save_model(model, tmp_path / "out")
    reference_save(model, str(tmp_path / "reference.safetensors"))
    ours, theirs = load_file(saved.path / "model.safetensors"), load_file(tmp_path / "reference.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (saved.kind, saved.warnings) == ("module", ())

    torch.manual_seed(1)
    again = Tied()
    assert load_model(again, saved.path / "model.safetensors") == (set(), [])
    assert torch.equal(again.head.weight, model.head.weight)
    assert again.head.weight is again.embed.weight


def test_bytes_equal_the_reference_writer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2).bfloat16())
    reference_save(model, str(tmp_path / "reference.safetensors"), metadata={"format": "pt"})
    perdure.save_model(model, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "reference.safetensors").read_bytes()


DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64,
    torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_every_dtype(dtype: torch.dtype, safe: bool, tmp_path: Path) -> None:
    raw = torch.tensor([1, 60, 3, 59], dtype=torch.uint8).repeat(8)
    value = torch.ones(3, dtype=torch.bool) if dtype is torch.bool else raw.view(dtype)
    saved = perdure.save_model(Buffers(value=value), tmp_path / "out", safe_serialization=safe)
    path = saved.path / ("model.safetensors" if safe else "pytorch_model.bin")
    again = load_file(path)["value"] if safe else torch.load(path, weights_only=True)["value"]
    assert (again.dtype, again.shape) == (value.dtype, value.shape)
    assert torch.equal(again.view(torch.uint8), value.view(torch.uint8))
    assert saved.warnings == ()


def test_a_dtype_that_the_format_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(perdure.InvalidInput, match=r"value has dtype torch\.complex128"):
        perdure.save_model(Buffers(value=torch.zeros(2, dtype=torch.complex128)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_shapes_and_strides(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "transposed": base.clone().t(),
        "strided": base.clone()[:, ::2],
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 3),
        "conjugate": torch.complex(torch.ones(2), torch.ones(2)).conj(),
        "negative": torch.complex(torch.ones(2), torch.ones(2)).conj().imag,
    }
    saved = perdure.save_model(Buffers(**tensors), tmp_path / "out")
    again = load_file(saved.path / "model.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(again[name], tensor), name
        assert again[name].shape == tensor.shape
    assert perdure.verify(saved.path).ok


def test_views_of_one_memory(tmp_path: Path) -> None:
    memory = torch.arange(10, dtype=torch.float32)
    disjoint = perdure.save_model(Buffers(a=memory[:5], b=memory[5:]), tmp_path / "disjoint")
    assert disjoint.warnings == ()
    overlapping = perdure.save_model(Buffers(a=memory[:6], b=memory[4:]), tmp_path / "overlapping")
    assert len(overlapping.warnings) == 1
    assert "a, b share memory in part" in overlapping.warnings[0]
    for saved, cut in ((disjoint, slice(5, None)), (overlapping, slice(4, None))):
        assert torch.equal(load_file(saved.path / "model.safetensors")["b"], memory[cut])


def test_bin_keeps_ties_and_drops_memory_that_no_tensor_shows(tmp_path: Path) -> None:
    memory = torch.zeros(1_000_000)
    model = Tied()
    model.register_buffer("window", memory[:10])
    saved = perdure.save_model(model, tmp_path / "out", safe_serialization=False)
    assert set(saved.files) == {"pytorch_model.bin"}
    assert saved.bytes < 100_000
    state = torch.load(saved.path / "pytorch_model.bin", weights_only=True)
    assert state["head.weight"].data_ptr() == state["embed.weight"].data_ptr()
    again = Tied()
    again.register_buffer("window", torch.ones(10))
    again.load_state_dict(state)
    assert torch.equal(again.head.weight, model.head.weight)


def test_shards_hold_every_tensor_once(tmp_path: Path) -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(10, 10) for _ in range(5)))
    saved = perdure.save_model(model, tmp_path / "out", max_shard_size="1KB")
    index = json.loads((saved.path / "model.safetensors.index.json").read_bytes())
    state: dict[str, torch.Tensor] = {}
    for name in sorted(set(index["weight_map"].values())):
        shard = load_file(saved.path / name)
        assert all(index["weight_map"][tensor] == name for tensor in shard)
        state |= shard
    assert state.keys() == model.state_dict().keys() == index["weight_map"].keys()
    assert index["metadata"] == {"total_parameters": 550, "total_size": 2200}


@dataclass
class Settings:
    width: int = 4


class WithDict:
    def to_dict(self) -> dict[str, Any]:
        return {"width": 4}


class Plain:
    def __init__(self) -> None:
        self.width = 4


@pytest.mark.parametrize("config", [{"width": 4}, Settings(), WithDict(), Plain()], ids=lambda c: type(c).__name__)
def test_a_config_of_any_make_is_saved(config: object, tmp_path: Path) -> None:
    model = Tied()
    model.config = config
    saved = perdure.save_model(model, tmp_path / "out")
    assert json.loads((saved.path / "config.json").read_bytes()) == {"width": 4}
    assert saved.warnings == ()


@pytest.mark.parametrize("config", [{"where": Path()}, {("a", "b"): 1}, [1, 2], "text", {1: 1, "a": 2}], ids=repr)
def test_a_config_that_is_no_json_costs_a_warning_only(config: object, tmp_path: Path) -> None:
    model = Tied()
    model.config = config
    saved = perdure.save_model(model, tmp_path / "out")
    assert "config cannot be written" in saved.warnings[0]
    assert set(saved.files) == {"model.safetensors"}


class ExtraState(Tied):
    def get_extra_state(self) -> dict[str, int]:
        return {"step": 1}

    def set_extra_state(self, state: Any) -> None:
        raise AssertionError("never read back here")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"a": torch.zeros(1)}, "a dict, not a torch.nn.Module"),
        (ExtraState(), "_extra_state in the state dict is a dict, not a tensor"),
        (Buffers(value=torch.eye(3).to_sparse()), "value is sparse"),
    ],
    ids=["no-module", "extra-state", "sparse"],
)
def test_what_cannot_be_saved_is_refused_by_name(model: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(perdure.InvalidInput, match=message):
        perdure.save_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_wrappers_are_looked_through(tmp_path: Path) -> None:
    model = Tied()
    saved = perdure.save_model(torch.nn.DataParallel(torch.compile(model)), tmp_path / "out")
    assert set(load_file(saved.path / "model.safetensors")) == {"embed.weight", "norm.bias", "norm.weight"}
