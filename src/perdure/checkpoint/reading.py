"""Read a committed checkpoint's files, each byte verified against the manifest before anything rests on it."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from perdure.errors import Corrupt
from perdure.format.header import Header, read_header
from perdure.format.manifest import FileEntry, Manifest
from perdure.io import direct
from perdure.io.digest import as_text, combine, digest_bytes

_MAX_DOCUMENT = 2**30
Progress = Callable[[int], None]


def read_document(folder: Path, manifest: Manifest, name: str) -> Any:
    """A JSON document of a checkpoint.

    Raises:
        Corrupt: It is not what was saved.
    """
    path, entry = folder / name, manifest.files[name]
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size or entry.size > _MAX_DOCUMENT:
            raise Corrupt(f"{path} is no file, or has another size than was saved.", path=path, expected=entry.size)
        data = path.read_bytes()
    except OSError as error:
        raise Corrupt(f"{path} cannot be read: {error.strerror}.", path=path) from error
    found = as_text(digest_bytes(data))
    if found != entry.digest:
        raise Corrupt(f"{path} is not what was saved.", path=path, expected=entry.digest, got=found)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{path} is not JSON: {error}.", path=path) from error


def read_verified_header(folder: Path, manifest: Manifest, name: str) -> Header:
    """The header of a safetensors file of a checkpoint.

    Raises:
        Corrupt: It is not what was saved.
    """
    path, entry = folder / name, manifest.files[name]
    try:
        header = read_header(path)
        with path.open("rb") as file:
            head = digest_bytes(file.read(header.length))
    except OSError as error:
        raise Corrupt(f"{path} cannot be read: {error.strerror}.", path=path) from error
    found = _digest(head, header, entry)
    if set(header.tensors) != set(entry.tensors) or header.size != entry.size or found != entry.digest:
        raise Corrupt(f"The header of {path} is not what was saved.", path=path, expected=entry.digest, got=found)
    return header


def _digest(head: bytes, header: Header, entry: FileEntry) -> str:
    """The digest that the file has if its tensors have theirs."""
    if not header.tensors:
        return as_text(head)
    digests = (entry.tensors.get(name, "").removeprefix("blake3:") for name in header.tensors)
    return as_text(combine([head, *map(bytes.fromhex, digests)]))


def read_tensors(
    path: Path, entry: FileEntry, header: Header, targets: Mapping[str, tuple[torch.Tensor, int]], progress: Progress
) -> None:
    """Read tensors of a file into live memory, and verify them in the same pass.

    Args:
        targets: Name → tensor, and where in it, in bytes.

    Raises:
        Corrupt: A tensor is not what was saved; the targets then hold some of it.
    """
    wanted = [key for key in header.tensors if key in targets]
    extents = [
        direct.ReadExtent(
            header.length + header.tensors[key].begin,
            header.tensors[key].nbytes,
            _reported(_writer(*targets[key], header.tensors[key].nbytes), progress),
        )
        for key in wanted
    ]
    try:
        digests = direct.read(path, extents, cached=True)
    except OSError as error:
        raise Corrupt(f"{path} cannot be read: {error.strerror}.", path=path) from error
    for key, digest in zip(wanted, digests, strict=True):
        if as_text(digest) != entry.tensors[key]:
            raise Corrupt(
                f"{path}: {key} is not what was saved.",
                path=path, tensor=key, expected=entry.tensors[key], got=as_text(digest),
            )  # fmt: skip


def _reported(write: Callable[[int, memoryview], None], progress: Progress) -> Callable[[int, memoryview], None]:
    def write_from(start: int, data: memoryview) -> None:
        write(start, data)
        progress(len(data))

    return write_from


def _writer(tensor: torch.Tensor, offset: int, nbytes: int) -> Callable[[int, memoryview], None]:
    """Puts bytes into a tensor in place, whatever its device and strides."""
    tensor = tensor.detach()
    if nbytes == 0:
        return lambda start, data: None
    if not tensor.is_contiguous():
        return _gatherer(tensor)
    flat = tensor.reshape(-1).view(torch.uint8)[offset : offset + nbytes]
    if tensor.device.type == "cpu":
        memory = flat.numpy().data
        return lambda start, data: direct.copy(memory[start : start + len(data)], data)
    return lambda start, data: _to_device(flat[start : start + len(data)], data)


def _to_device(target: torch.Tensor, data: memoryview) -> None:
    target.copy_(torch.frombuffer(data, dtype=torch.uint8))


def _gatherer(tensor: torch.Tensor) -> Callable[[int, memoryview], None]:
    """For a tensor whose elements are not in the order of the file: held back until it is complete."""
    whole = torch.empty(tensor.shape, dtype=tensor.dtype)
    memory = whole.reshape(-1).view(torch.uint8).numpy().data
    left, lock = len(memory), threading.Lock()

    def write_from(start: int, data: memoryview) -> None:
        nonlocal left
        direct.copy(memory[start : start + len(data)], data)
        with lock:
            left -= len(data)
            if left == 0:
                tensor.copy_(whole)

    return write_from
