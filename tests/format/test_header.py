from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from perdure.errors import Corrupt
from perdure.format.header import DTYPE_BITS, lay_out, parse, read_header

TORCH = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16, "U16": torch.uint16, "F16": torch.float16, "BF16": torch.bfloat16, "I32": torch.int32,
    "U32": torch.uint32, "F32": torch.float32, "C64": torch.complex64, "F64": torch.float64, "I64": torch.int64,
    "U64": torch.uint64,
}  # fmt: skip

names = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda n: n != "__metadata__"
)
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@given(st.dictionaries(names, st.tuples(st.sampled_from(sorted(TORCH)), shapes), min_size=1, max_size=8))
@settings(max_examples=150)
def test_layout_is_the_reference_writers_to_the_byte(spec: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    path = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path()
    file = path / "perdure-header-test.safetensors"
    tensors = {name: torch.zeros(shape, dtype=torch.uint8).to(TORCH[dtype]) for name, (dtype, shape) in spec.items()}
    try:
        save_file(tensors, file, metadata={"format": "pt"})
        head, header = lay_out([(n, d, s) for n, (d, s) in spec.items()], {"format": "pt"})
        assert file.read_bytes()[: len(head)] == head
        assert header == read_header(file)
    finally:
        file.unlink(missing_ok=True)


def test_what_it_lays_out_loads(tmp_path: Path) -> None:
    head, header = lay_out([("b", "F32", (2,)), ("a", "BF16", (3,))], {"format": "pt"})
    assert list(header.tensors) == ["b", "a"]
    (tmp_path / "f").write_bytes(head + bytes(header.size - len(head)))
    assert load_file(tmp_path / "f")["a"].shape == (3,)


GOOD = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


@pytest.mark.parametrize(
    "document",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}},
        {"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2**62] * 3, "data_offsets": [0, 8]}},
        {"a": {"dtype": "U8", "shape": [1] * 100_000, "data_offsets": [0, 1]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 9]}},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": 3},
        {**GOOD, "b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}},
        {**GOOD, "__metadata__": {"x": 1}},
        {**GOOD, "__metadata__": []},
    ],
)
def test_a_header_that_contradicts_itself_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(json.dumps(document).encode())


def test_hostile_files_are_refused_at_once(tmp_path: Path) -> None:
    head, _ = lay_out([("a", "F32", (2,))], {})
    entry = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    twice = b"{" + entry + b"," + entry + b"}"
    whole = head + bytes(8)
    hostile = {
        "empty": b"",
        "short": b"\x01\x02",
        "huge-length": (2**63).to_bytes(8, "little") + b"{}",
        "cut": whole[:-1],
        "long": whole + b"x",
        "not-json": (2).to_bytes(8, "little") + b"{[" + bytes(8),
        "deep": (200_001).to_bytes(8, "little") + b'{"a":' + b"[" * 199_996,
        "twice": len(twice).to_bytes(8, "little") + twice + bytes(8),
    }
    for name, content in hostile.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(Corrupt):
            read_header(path)


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    for text in (data, b"{" + data, b'{"a":' + data + b"}"):
        with suppress(ValueError):
            assert parse(text).length == 8 + len(text)


def test_every_dtype_has_a_width() -> None:
    assert all(bits > 0 for bits in DTYPE_BITS.values())
