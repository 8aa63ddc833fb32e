"""`open_weights`: one tensor, or part of one, read without the rest; hostile and broken indexes are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small import llama, python

import perdure


@pytest.mark.parametrize("limit", ["5GB", "8KB"], ids=["one-file", "shards"])
def test_tensors_and_slices(limit: str, tmp_path: Path) -> None:
    model = llama()
    perdure.save_model(model, tmp_path, max_shard_size=limit)
    expected = model.state_dict()
    weights = perdure.open_weights(tmp_path)
    assert set(weights) == set(expected)
    assert len(weights) == len(expected)
    assert "nothing" not in weights
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor)
        assert weights.info(name).shape == tuple(tensor.shape)
    name = "lm_head.weight"
    whole = expected[name]
    assert torch.equal(weights.slice(name, (slice(0, 4), slice(None))), whole[0:4])
    assert torch.equal(weights.slice(name, (slice(None), slice(8, 16))), whole[:, 8:16])
    assert torch.equal(weights.slice(name, slice(60, None)), whole[60:])
    assert torch.equal(weights.slice(name, (..., 3)), whole[..., 3])
    with pytest.raises(KeyError):
        weights["nothing"]


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.float8_e4m3fn, torch.uint16, torch.complex64])
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 2)], ids=str)
def test_dtypes_and_shapes(dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = torch.ones(shape).to(dtype)
    save_file({"first": torch.ones(3, dtype=torch.uint8), "t": tensor}, tmp_path / "model.safetensors")
    again = perdure.open_weights(tmp_path)["t"]
    assert (again.dtype, again.shape) == (dtype, tensor.shape)
    assert torch.equal(again.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_only_the_bytes_that_are_needed_are_touched(tmp_path: Path) -> None:
    """A model of 64 GB, as files with holes: whoever read more than a part of it would need its memory, or minutes."""
    code = """
import json, resource, torch, perdure
from perdure.format.header import lay_out
from pathlib import Path
folder, weight_map = Path(sys.argv[1]), {}
for shard in (1, 2):
    file = f"model-0000{shard}-of-00002.safetensors"
    head, header = lay_out([(f"big{shard}", "F32", (2**20, 2**13)), (f"small{shard}", "F32", (4, 4))], {})
    with (folder / file).open("wb") as out:
        out.write(head)
        out.truncate(header.size)
    weight_map |= dict.fromkeys(header.tensors, file)
(folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
weights = perdure.open_weights(folder)
assert weights.info("big2").nbytes == 2**35
assert weights["small2"].shape == (4, 4)
part = weights.slice("big2", (slice(2**19, 2**19 + 8), slice(None)))
assert part.shape == (8, 2**13) and part.sum() == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    run = python(code, tmp_path)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 32 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file({"a": torch.ones(1)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.ones(1)}, tmp_path / "model-00002-of-00002.safetensors")
    write_index(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    return tmp_path


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    "file", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "model.bin", "x.safetensors", "", 1, None]
)
def test_an_index_that_leads_elsewhere_is_refused(file: Any, folder: Path) -> None:
    write_index(folder, {"a": file})
    with pytest.raises(perdure.Corrupt, match="not the name of a weights file beside it"):
        perdure.open_weights(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "[" * 100_000, "\x00"])
def test_a_damaged_index_is_refused(text: str, folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(perdure.Corrupt, match="is damaged"):
        perdure.open_weights(folder)


def test_a_missing_shard_and_a_missing_tensor_are_named(folder: Path) -> None:
    write_index(folder, {"a": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"})
    with pytest.raises(perdure.Corrupt, match="lacks c, which the index places in it") as caught:
        perdure.open_weights(folder)
    assert caught.value.tensor == "c"
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(perdure.Corrupt, match=r"model-00002-of-00002\.safetensors is missing"):
        perdure.open_weights(folder)


def test_a_cut_file_is_refused(folder: Path) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(perdure.Corrupt, match="its header describes"):
        perdure.open_weights(folder)


def test_what_cannot_be_read_in_parts_says_so(tmp_path: Path) -> None:
    perdure.save_model(llama(), tmp_path / "out", safe_serialization=False)
    with pytest.raises(perdure.InvalidInput, match="perdure export"):
        perdure.open_weights(tmp_path / "out")
    with pytest.raises(perdure.NotFound):
        perdure.open_weights(tmp_path / "nowhere")
