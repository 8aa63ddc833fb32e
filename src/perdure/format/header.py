"""The safetensors header, read and written without torch.

The format (github.com/huggingface/safetensors): 8 bytes, little-endian, with the length N of the header; N bytes
of JSON, `{name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {str: str}}`, which may be padded
with spaces; then the tensors' bytes, row-major and little-endian, without holes or overlaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perdure.errors import Corrupt

# Bits rather than bytes: the newest types pack several values into a byte. The order is the reference writer's.
DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
_RANK = {dtype: rank for rank, dtype in enumerate(DTYPE_BITS)}

MAX_HEADER = 100_000_000  # the reference reader's own bound
_ALIGN = 8
_MAX_DIMENSIONS = 64  # no framework has more; unbounded, their product could take forever


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as a header describes it; `begin` and `end` count bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Header:
    """A file's tensors in the order of their bytes, and its free-form metadata.

    `length` is where the tensors' bytes begin, and `size` what the whole file must weigh, both in bytes.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)
    length: int = 0

    @property
    def size(self) -> int:
        """How many bytes the whole file must be."""
        return self.length + max((info.end for info in self.tensors.values()), default=0)


def lay_out(tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]) -> tuple[bytes, Header]:
    """Lay tensors out as the reference writer does: widest dtype first, then by name, so that each is aligned.

    Args:
        tensors: Name, dtype (a key of `DTYPE_BITS`) and shape of each.
        metadata: Goes into `__metadata__`; the ecosystem expects `{"format": "pt"}`.

    Returns:
        The bytes that begin the file, and what they say.

    >>> head, header = lay_out([("a", "F32", (2, 3))], {"format": "pt"})
    >>> header.tensors["a"].nbytes, header.size - len(head)
    (24, 24)
    """
    placed: dict[str, TensorInfo] = {}
    offset = 0
    for name, dtype, shape in sorted(tensors, key=lambda item: (-_RANK[item[1]], item[0])):
        end = offset + math.prod(shape) * DTYPE_BITS[dtype] // 8
        placed[name] = TensorInfo(dtype, tuple(shape), offset, end)
        offset = end
    document: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, info in placed.items():
        document[name] = {
            "dtype": info.dtype,
            "shape": list(info.shape),
            "data_offsets": [info.begin, info.end],
        }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGN)
    head = len(text).to_bytes(8, "little") + text
    return head, Header(placed, dict(metadata), len(head))


def read_header(path: Path) -> Header:
    """Read and check the header of a file; the tensors' bytes are not touched.

    Raises:
        Corrupt: It is not a safetensors file, or its header contradicts itself or the file's size.
        OSError: It cannot be read at all.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(MAX_HEADER, size - 8):
            raise Corrupt(f"{path} is not a whole safetensors file: its header does not fit in it.", path=path)
        text = file.read(length)
    try:
        header = parse(text)
    except ValueError as error:
        raise Corrupt(f"{path} has a damaged safetensors header: {error}.", path=path) from error
    if header.size != size:
        raise Corrupt(
            f"{path} is {size} bytes, but its header describes {header.size}.",
            path=path, expected=header.size, got=size,
        )  # fmt: skip
    return header


def parse(text: bytes) -> Header:
    """Parse the JSON part of a header; `ValueError` says what is wrong with it."""
    if not text.startswith(b"{"):
        raise ValueError("it does not begin with '{'")
    try:
        document = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    metadata = document.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise ValueError("__metadata__ is not a map of strings")
    tensors = sorted(
        ((name, _tensor_info(name, entry)) for name, entry in document.items()),
        key=lambda item: (item[1].begin, item[1].end),
    )
    expected = 0
    for name, info in tensors:
        if info.begin != expected:
            raise ValueError(f"the bytes of {name[:200]!r} overlap others or leave a hole")
        expected = info.end
    return Header(dict(tensors), metadata, 8 + len(text))


def _tensor_info(name: str, entry: Any) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name[:200]!r} is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise ValueError(f"{name[:200]!r} has an unknown dtype")
    if not _naturals(shape) or len(shape) > _MAX_DIMENSIONS or not _naturals(offsets) or len(offsets) != 2:
        raise ValueError(f"{name[:200]!r} has a malformed shape or place")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * DTYPE_BITS[dtype]:
        raise ValueError(f"{name[:200]!r} does not fill its place")
    return TensorInfo(dtype, tuple(shape), begin, end)


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name stands in it twice")
    return document
