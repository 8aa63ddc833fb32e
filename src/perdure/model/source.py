"""Find the weights in a model folder, and what else belongs to the model; trust no name that stands in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perdure.errors import Corrupt, InvalidInput, NotFound
from perdure.folder.recognise import model_files
from perdure.format.header import Header
from perdure.format.instead import instead_of
from perdure.format.names import (
    ADAPTER_WEIGHTS,
    MANIFEST,
    PICKLED_ADAPTER_WEIGHTS,
    PICKLED_WEIGHTS,
    WEIGHTS,
    holds_weights,
    is_weights,
)

_MAX_INDEX = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """A model's weights in one format.

    Attributes:
        name: What one file of them is called: `model.safetensors`, `pytorch_model.bin`, `adapter_model.safetensors`…
        files: The files, in order.
        weight_map: Tensor → file, where an index says so; empty for a single file.
        metadata: The index's own, such as `total_parameters`.
    """

    name: str
    files: tuple[str, ...]
    weight_map: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_safe(self) -> bool:
        """Whether they are safetensors."""
        return self.name.endswith(".safetensors")

    @property
    def is_adapter(self) -> bool:
        """Whether they are an adapter's alone."""
        return self.name.startswith("adapter_model")


def find_weights(folder: Path) -> WeightFiles:
    """The weights that loaders take from `folder`: safetensors before `.bin`, a model before an adapter.

    Raises:
        NotFound: There is no such folder, or no weights are in it.
        InvalidInput: A single file and an index are both there; one of them is stale.
        Corrupt: The index is damaged, names a file outside the folder, or one that is missing.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder.", hint="Name a folder with a model in it.")
    for name in (WEIGHTS, PICKLED_WEIGHTS, ADAPTER_WEIGHTS, PICKLED_ADAPTER_WEIGHTS):
        single, index = folder / name, folder / f"{name}.index.json"
        if single.exists() and index.exists():
            raise InvalidInput(
                f"{folder} holds both {name} and {index.name}: loaders take the single file, though it may be older.",
                hint="Find out which of them is stale, and move it away.",
            )
        if single.exists():
            return WeightFiles(name=name, files=(name,))
        if index.exists():
            return _indexed(index, name)
    raise NotFound(
        f"No weights were found in {folder}.",
        hint=instead_of(folder) or "Name a folder with model.safetensors or pytorch_model.bin in it.",
    )


def _indexed(index: Path, name: str) -> WeightFiles:
    suffix = f".{name.rpartition('.')[2]}"
    try:
        if index.stat().st_size > _MAX_INDEX:
            raise ValueError("it is larger than any model could need")
        document = json.loads(index.read_bytes())
        weight_map, metadata = document["weight_map"], document.get("metadata") or {}
        if not isinstance(weight_map, dict) or not weight_map or not isinstance(metadata, dict):
            raise ValueError("it has no map of weights")
        for file in weight_map.values():
            if not isinstance(file, str) or not is_weights(file) or not file.endswith(suffix):
                raise ValueError(f"{str(file)[:200]!r} is not the name of a weights file beside it")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(f"The index {index} is damaged: {error}.", path=index) from error
    files = tuple(sorted(set(weight_map.values())))
    for file in files:
        if not (index.parent / file).is_file():
            raise Corrupt(f"{index.parent / file} is missing: the index names it.", path=index.parent / file)
    return WeightFiles(name=name, files=files, weight_map=weight_map, metadata=metadata)


def homes_of(folder: Path, found: WeightFiles, headers: Mapping[str, Header]) -> dict[str, str]:
    """Tensor → the file that loaders take it from: the one that the index names, where there is an index.

    Raises:
        Corrupt: The index names a tensor that is not where it says.
    """
    homes = {
        name: file
        for file, header in headers.items()
        for name in header.tensors
        if found.weight_map.get(name, file) == file
    }
    for name, file in found.weight_map.items():
        if name not in homes:
            raise Corrupt(
                f"{folder / file} lacks {name}, which the index places in it.", path=folder / file, tensor=name
            )
    return homes


def other_files(folder: Path) -> list[str]:
    """Paths of the model's other files: configurations, tokenizer, templates, code, card; no training state."""
    return sorted(path for path in model_files(folder) if not holds_weights(path) and path != MANIFEST)
