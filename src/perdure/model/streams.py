"""The tensors of a model folder as bytes, one at a time: from safetensors, from `.bin`, converted on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perdure._optional import require
from perdure.errors import Corrupt
from perdure.format.header import Header, read_header
from perdure.format.manifest import FileEntry, tensors_entry
from perdure.io.digest import as_bytes, as_text, digest_bytes, digest_file
from perdure.model.source import WeightFiles, homes_of, inside

if TYPE_CHECKING:
    import torch

_TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_CONVERTIBLE = frozenset(_TORCH_NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorStream:
    """Tensors in order, and how to get at the bytes of one.

    `shapes` has name, dtype as safetensors calls it, and shape of each; `warnings` grows as tensors are read.
    """

    shapes: Sequence[tuple[str, str, tuple[int, ...]]]
    metadata: Mapping[str, str]
    read: Callable[[str], memoryview]
    warnings: list[str] = field(default_factory=list)


def from_safetensors(folder: Path, found: WeightFiles, saved: Mapping[str, FileEntry]) -> TensorStream:
    """Tensors of safetensors files, each read when it is asked for and compared with `saved` where that knows it.

    Raises:
        Corrupt: A header is damaged, or is not the one that was saved; reading a tensor raises it, too.
    """
    headers = {file: read_header(inside(folder, file)) for file in found.files}
    metadata = {"format": "pt"}
    for file, header in headers.items():
        metadata |= header.metadata
        if file in saved:
            _compare_header(inside(folder, file), header, saved[file])
    homes = homes_of(folder, found, headers)

    def read(name: str) -> memoryview:
        file = homes[name]
        header, info = headers[file], headers[file].tensors[name]
        data = _read_exactly(inside(folder, file), header.length + info.begin, info.nbytes)
        expected = saved[file].tensors[name] if file in saved else None
        if expected is not None and (got := as_text(digest_bytes(data))) != expected:
            raise Corrupt(
                f"{name} in {folder / file} is not what was saved.",
                path=folder / file, tensor=name, expected=expected, got=got,
            )  # fmt: skip
        return data

    infos = {name: headers[file].tensors[name] for name, file in homes.items()}
    shapes = [(name, info.dtype, info.shape) for name, info in infos.items()]
    return TensorStream(shapes=shapes, metadata=metadata, read=read)


def _compare_header(path: Path, header: Header, entry: FileEntry) -> None:
    known = {name: as_bytes(entry.tensors[name]) for name in header.tensors if name in entry.tensors}
    head = digest_bytes(_read_exactly(path, 0, header.length))
    if tensors_entry(header.size, head, known) != entry:
        raise Corrupt(f"The header of {path} is not what was saved.", path=path)


def _read_exactly(path: Path, start: int, length: int) -> memoryview:
    data = bytearray(length)
    with path.open("rb") as file:
        file.seek(start)
        if file.readinto(data) != length:
            raise Corrupt(f"{path} ends too early.", path=path)
    return memoryview(data)


def from_pickles(folder: Path, found: WeightFiles, saved: Mapping[str, FileEntry]) -> TensorStream:
    """Tensors of `.bin` files; one that has several names comes once, under the first of them.

    The metadata maps each other name to that one, as `save_model` does for plain modules.

    Raises:
        Corrupt: A file is damaged, is not what was saved, or holds more than tensors.
    """
    require("torch", "Reading .bin files")
    from perdure.model import pickled
    from perdure.model.tensors import as_bytes as bytes_of
    from perdure.model.tensors import check_storable, dtype_name
    from perdure.model.weights import view_of

    tensors: dict[str, torch.Tensor] = {}
    metadata = {"format": "pt"}
    for file in found.files:
        path = inside(folder, file)
        compare_file(path, saved.get(file))
        first: dict[tuple[object, ...], str] = {}
        for name, tensor in pickled.read(path).items():
            if tensor.numel() and first.setdefault(view_of(tensor), name) != name:
                metadata[name] = first[view_of(tensor)]
            else:
                tensors[name] = tensor
    check_storable(tensors)
    return TensorStream(
        shapes=[(name, dtype_name(name, tensor), tuple(tensor.shape)) for name, tensor in tensors.items()],
        metadata=metadata,
        read=lambda name: bytes_of(tensors[name]),
    )


def compare_file(path: Path, entry: FileEntry | None) -> None:
    """Compare a file with what a manifest says of it, if it says anything; `Corrupt` if it is another."""
    if entry is None:
        return
    size, digest = digest_file(path)
    if (size, as_text(digest)) != (entry.size, entry.digest):
        raise Corrupt(f"{path} is not what was saved.", path=path, expected=entry.digest, got=as_text(digest))


def converted(stream: TensorStream, to: str) -> TensorStream:
    """The same tensors with every floating-point one of 16 bits or more as `to`: BF16, F16 or F32.

    Values that the new type cannot hold become infinite, and are told of.
    """
    torch = require("torch", "Converting weights")
    from perdure.model.tensors import as_bytes as bytes_of
    from perdure.model.tensors import not_finite

    dtypes = {name: dtype for name, dtype, _ in stream.shapes}
    warnings: list[str] = []

    def read(name: str) -> memoryview:
        data = stream.read(name)
        if dtypes[name] not in _CONVERTIBLE or dtypes[name] == to or not len(data):
            return data
        before = torch.frombuffer(data, dtype=getattr(torch, _TORCH_NAMES[dtypes[name]]))
        after = before.to(getattr(torch, _TORCH_NAMES[to]))
        if (found := not_finite(after)) and not not_finite(before):
            warnings.append(f"{name} does not fit into {_TORCH_NAMES[to]}: {found}")
        return bytes_of(after)

    shapes = [(name, to if dtype in _CONVERTIBLE else dtype, shape) for name, dtype, shape in stream.shapes]
    return TensorStream(shapes=shapes, metadata=stream.metadata, read=read, warnings=warnings)


def torch_name(dtype: str) -> str:
    """What configurations call one of the dtypes that `converted` knows."""
    return _TORCH_NAMES[dtype]
