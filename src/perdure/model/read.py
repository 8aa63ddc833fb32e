"""Read a saved model's tensors one by one, or a part of one, without reading the model."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING

import numpy as np

from perdure._optional import require
from perdure.errors import InvalidInput, UnsupportedFormat
from perdure.folder.paths import inside
from perdure.format.header import DTYPE_BITS, TensorInfo, read_header
from perdure.model.source import find_weights, homes_of

if TYPE_CHECKING:
    import torch

_Part = slice | int | EllipsisType
Index = _Part | tuple[_Part, ...]


class WeightsReader(Mapping[str, "torch.Tensor"]):
    """The tensors of a model folder by name, from one file or from several through their index.

    Opening it reads headers only. What is then read comes through a read-only map of the file, so no other bytes are
    touched, and a file may be larger than memory. Every tensor returned has memory of its own.

    >>> weights = open_weights("out")  # doctest: +SKIP
    >>> bias = weights["lm_head.bias"]  # doctest: +SKIP
    >>> mine = weights.slice("lm_head.weight", (slice(0, 512), slice(None)))  # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        found = find_weights(folder)
        if not found.is_safe:
            raise InvalidInput(
                f"{folder} holds {found.name}, which cannot be read in parts.",
                hint=f"Turn it into safetensors first: perdure export {folder} OUT",
            )
        self._paths = {file: inside(folder, file) for file in found.files}
        self._headers = {file: read_header(path) for file, path in self._paths.items()}
        self._homes = homes_of(folder, found, self._headers)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.slice(name, ...)

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def __contains__(self, name: object) -> bool:
        return name in self._homes  # the inherited one would read the tensor

    def info(self, name: str) -> TensorInfo:
        """Dtype and shape of a tensor, from the header alone."""
        return self._headers[self._homes[name]].tensors[name]

    def slice(self, name: str, index: Index) -> torch.Tensor:
        """Part of a tensor: what `tensor[index]` is, for slices and integers.

        Raises:
            KeyError, IndexError: There is no such tensor, or no such part of it.
            UnsupportedFormat: PyTorch has no such dtype, or it packs several values into a byte.
        """
        import torch

        from perdure.model.tensors import torch_dtype

        info, file = self.info(name), self._homes[name]
        dtype = torch_dtype(info.dtype)
        if dtype is None:
            raise UnsupportedFormat(f"{name} has dtype {info.dtype}, which cannot be read as a tensor here.")
        if math.prod(info.shape) == 0:
            return torch.empty(info.shape, dtype=dtype)[index]
        stored = np.memmap(
            self._paths[file],
            dtype=f"<u{DTYPE_BITS[info.dtype] // 8}",
            mode="r",
            offset=self._headers[file].length + info.begin,
            shape=info.shape,
        )
        return torch.from_numpy(np.array(stored[index])).view(dtype)


def open_weights(folder: str | os.PathLike[str]) -> WeightsReader:
    """Open the weights of a model folder for reading by name; safetensors, single or sharded.

    Raises:
        NotFound: There is no such folder, or no weights are in it.
        InvalidInput: Its weights are a legacy `.bin`, or a link in it leads elsewhere.
        Corrupt: An index or a header is damaged, or a shard is missing: the error names it.
        MissingDependency: PyTorch is not installed.
    """
    require("torch", "open_weights")
    return WeightsReader(Path(folder).expanduser())
