"""docs/format.md is enough: a reader written from it alone, in which there is no perdure, reads the golden folders."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from blake3 import blake3
from safetensors.torch import load_file

VERSION = Path(__file__).parent / "v1"
VALUES = json.loads((VERSION / "values.json").read_text())
MANIFESTS = sorted(VERSION.rglob("perdure.json"))
CONTEXT = "perdure 2026-11 tree digest"
CHUNK = 16 * 2**20
CHECKPOINT = VERSION / "run/checkpoint-3"


def digest(data: bytes) -> bytes:
    chunks = [data[begin : begin + CHUNK] for begin in range(0, len(data), CHUNK)] or [b""]
    return blake3(data).digest() if len(chunks) == 1 else combined([blake3(chunk).digest() for chunk in chunks])


def combined(digests: list[bytes]) -> bytes:
    return blake3(b"".join(digests), derive_key_context=CONTEXT).digest()


def text(digest_: bytes) -> str:
    return f"blake3:{digest_.hex()}"


def parts(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """A safetensors file: what stands before the tensors' bytes, and those, in the order of the file."""
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    header = {name: entry for name, entry in json.loads(data[8:begin]).items() if name != "__metadata__"}
    order = sorted(header, key=lambda name: header[name]["data_offsets"])
    spans = {name: header[name]["data_offsets"] for name in order}
    return data[:begin], {name: data[begin + first : begin + last] for name, (first, last) in spans.items()}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.parent.relative_to(VERSION)))
def test_every_digest_is_what_the_page_says(path: Path) -> None:
    document = json.loads(path.read_text())
    assert (document["format"], document["version"]) == ("perdure", 1)
    bare = {key: value for key, value in document.items() if key != "digest"}
    canonical = json.dumps(bare, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert document["digest"] == text(digest(canonical.encode()))
    for name, entry in document["files"].items():
        data = (path.parent / name).read_bytes()
        assert len(data) == entry["size"]
        if "tensors" in entry:
            head, tensors = parts(data)
            assert {key: text(digest(piece)) for key, piece in tensors.items()} == entry["tensors"]
            assert entry["digest"] == text(combined([digest(head), *map(digest, tensors.values())]))
        else:
            assert entry["digest"] == text(digest(data))


def component(folder: Path, name: str) -> Any:
    """The state of a component of a checkpoint."""
    beside = folder / f"{name}.safetensors"
    tensors = load_file(beside) if beside.exists() else {}
    return value(json.loads((folder / f"{name}.json").read_text())["state"], tensors)


def value(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, list):
        return [value(item, tensors) for item in node]
    if not isinstance(node, dict) or "$" not in node:
        return {key: value(item, tensors) for key, item in node.items()} if isinstance(node, dict) else node
    tag = node["$"]
    if tag in ("tuple", "set", "frozenset", "size"):
        kinds = {"tuple": tuple, "set": set, "frozenset": frozenset, "size": torch.Size}
        return kinds[tag](value(node["items"], tensors))
    if tag in ("dict", "ordered", "counter"):
        pairs = [(value(key, tensors), value(item, tensors)) for key, item in node["items"]]
        return {"dict": dict, "ordered": OrderedDict, "counter": lambda these: Counter(dict(these))}[tag](pairs)
    if tag in ("tensor", "array", "scalar"):
        found = tensors[node["name"]]
        return found if tag == "tensor" else found.numpy() if tag == "array" else found.numpy()[()]
    return {
        "int": lambda: int(node["hex"], 16),
        "float": lambda: struct.unpack(">d", bytes.fromhex(node["bits"]))[0],
        "complex": lambda: complex(*value(node["parts"], tensors)),
        "bytes": lambda: base64.b64decode(node["base64"]),
        "dtype": lambda: getattr(torch, node["name"]),
        "device": lambda: torch.device(node["name"]),
    }[tag]()


def test_values_of_every_sort() -> None:
    import make

    found = component(CHECKPOINT / "training_state", "notes")["value"]
    assert [repr(one) for one in found] == [repr(one) for one in make.notes()]


def test_the_manifest_tells_of_the_moment() -> None:
    document = json.loads((CHECKPOINT / "perdure.json").read_text())
    assert (document["kind"], document["step"], document["epoch"]) == ("checkpoint", 3, 0.75)
    assert {name: float(number) for name, number in document["metrics"].items()} == {"loss": 0.5, "worst": math.inf}


def test_the_model_the_optimizer_the_scheduler_and_the_generators() -> None:
    expected = VALUES["run"]
    model = load_file(CHECKPOINT / "model.safetensors")
    assert {name: tensor.flatten().tolist() for name, tensor in model.items()} == expected["model"]
    optimizer = component(CHECKPOINT / "training_state", "optimizer")
    (group,) = optimizer["param_groups"]
    assert [optimizer["state"][name]["exp_avg_sq"].flatten().tolist() for name in group["params"]] == expected[
        "moments"
    ]
    assert group["lr"] == expected["lr"]
    assert component(CHECKPOINT / "training_state", "scheduler")["last_epoch"] == expected["scheduler"]
    assert component(CHECKPOINT / "training_state", "loader")["taken"] == 3
    assert set(component(CHECKPOINT / "training_state", "rng")) == {"python", "numpy", "torch", "cuda"}


def test_where_an_adapters_tensors_belong_and_on_which_base() -> None:
    folder = VERSION / "adapter-run/checkpoint-3"
    document = component(folder / "training_state", "model")
    adapter = load_file(folder / "adapter_model.safetensors")
    live = {document["places"].get(name, [name])[0]: tensor.flatten().tolist() for name, tensor in adapter.items()}
    assert live == VALUES["adapter"]
    base = load_file(VERSION / "model/model.safetensors")
    assert len(document["base"]) == len(base)
    for name, (dtype, shape, sampled) in document["base"].items():
        tensor = base[name.replace(".base_layer", "").removeprefix("base_model.model.")]
        assert (f"torch.{dtype}", shape) == (str(tensor.dtype), list(tensor.shape))
        assert blake3(tensor.numpy().tobytes()).hexdigest()[:32] == sampled


def test_what_each_of_several_processes_saved() -> None:
    folder = VERSION / "ranks/checkpoint-3/training_state"
    others = [path for path in folder.iterdir() if re.fullmatch(r"rank-\d{5,}", path.name)]
    assert [path.name for path in others] == ["rank-00001"]
    assert component(folder, "notes") == {"value": {"rank": 0}}
    assert component(others[0], "notes") == {"value": {"rank": 1}}
    assert not (others[0] / "optimizer.json").exists()
