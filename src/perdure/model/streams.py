"""Tensors as bytes, one at a time: from a live model, from safetensors, from `.bin`, converted on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perdure._optional import require
from perdure.errors import Corrupt
from perdure.folder.paths import inside
from perdure.format.header import DTYPE_BITS, Header, read_header
from perdure.format.manifest import FileEntry, tensors_entry
from perdure.format.shards import Item
from perdure.io.digest import as_bytes, as_text, digest_bytes, digest_file
from perdure.model.source import WeightFiles, homes_of

if TYPE_CHECKING:
    import torch

    from perdure.model.weights import Weights

_TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_CONVERTIBLE = frozenset(_TORCH_NAMES)


Infos = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorStream:
    """Tensors in order, and how to get at the bytes of one.

    Attributes:
        infos: Tensor → dtype as safetensors calls it, and shape.
        items: The same for the plan of shards.
        metadata: What stands in each file's header.
        total_parameters: As the index states it.
        read: Tensor → its bytes. Several threads may call it at once.
        notes: Tensor → what is worth telling of it; grows as tensors are read.
    """

    infos: Infos
    items: Sequence[Item]
    metadata: Mapping[str, str]
    total_parameters: int
    read: Callable[[str], memoryview]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """The notes as sentences, in the order of the tensors, whichever thread read what first."""
        return [f"{name} {self.notes[name]}" for name in self.infos if name in self.notes]


def from_tensors(of_model: Weights) -> TensorStream:
    """A model's own tensors; each is searched for NaN and infinity while it is written, not in a pass of its own."""
    from perdure.model.tensors import as_bytes as bytes_of
    from perdure.model.tensors import dtype_name, not_finite

    notes: dict[str, str] = {}

    def read(name: str) -> memoryview:
        tensor = of_model.tensors[name]
        if found := not_finite(tensor):
            notes[name] = f"has {found}"
        return bytes_of(tensor)

    return TensorStream(
        infos={name: (dtype_name(name, tensor), tuple(tensor.shape)) for name, tensor in of_model.tensors.items()},
        items=of_model.items,
        metadata=of_model.metadata,
        total_parameters=of_model.total_parameters,
        read=read,
        notes=notes,
    )


def _of_files(
    infos: Infos, found: WeightFiles, metadata: Mapping[str, str], read: Callable[[str], memoryview]
) -> TensorStream:
    known = found.metadata.get("total_parameters")
    counted = sum(math.prod(shape) for _, shape in infos.values())
    return TensorStream(
        infos=infos,
        items=_items(infos),
        metadata=metadata,
        total_parameters=known if type(known) is int else counted,
        read=read,
    )


def _items(infos: Infos) -> list[Item]:
    return [Item(name, math.prod(shape) * DTYPE_BITS[dtype] // 8) for name, (dtype, shape) in infos.items()]


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

    described = {name: headers[file].tensors[name] for name, file in homes.items()}
    infos = {name: (info.dtype, info.shape) for name, info in described.items()}
    return _of_files(infos, found, metadata, read)


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
    infos = {name: (dtype_name(name, tensor), tuple(tensor.shape)) for name, tensor in tensors.items()}
    return _of_files(infos, found, metadata, lambda name: bytes_of(tensors[name]))


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

    notes: dict[str, str] = {}

    def read(name: str) -> memoryview:
        data, (dtype, _) = stream.read(name), stream.infos[name]
        if dtype not in _CONVERTIBLE or dtype == to or not len(data):
            return data
        before = torch.frombuffer(data, dtype=getattr(torch, _TORCH_NAMES[dtype]))
        after = before.to(getattr(torch, _TORCH_NAMES[to]))
        if (found := not_finite(after)) and not not_finite(before):
            notes[name] = f"does not fit into {_TORCH_NAMES[to]}: {found}"
        return bytes_of(after)

    infos = {name: (to if dtype in _CONVERTIBLE else dtype, shape) for name, (dtype, shape) in stream.infos.items()}
    return replace(stream, infos=infos, items=_items(infos), read=read, notes=notes)


def torch_name(dtype: str) -> str:
    """What configurations call one of the dtypes that `converted` knows."""
    return _TORCH_NAMES[dtype]
