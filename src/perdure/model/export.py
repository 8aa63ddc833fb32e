"""`export`: turn any model folder into a clean one, tensor by tensor."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from perdure.errors import Corrupt, InvalidInput
from perdure.folder import Stage, is_interrupted, stage
from perdure.folder.paths import inside
from perdure.format.manifest import FileEntry, Manifest, read_manifest
from perdure.format.names import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    MANIFEST,
    WEIGHTS,
    belongs_to_model,
    is_tokenizer,
    is_weights,
)
from perdure.format.shards import parse_size
from perdure.io.locks import pinned
from perdure.model import streams
from perdure.model.kind import is_kind, kind_in
from perdure.model.saved import SavedModel, stale_in
from perdure.model.source import WeightFiles, find_weights, other_files
from perdure.model.write import NO_LIMIT, write_stream

if TYPE_CHECKING:
    import torch

_DTYPES = {
    "bf16": "BF16", "bfloat16": "BF16", "fp16": "F16", "float16": "F16", "fp32": "F32", "float32": "F32",
}  # fmt: skip


def export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    max_shard_size: int | str = "5GB",
    dtype: str | torch.dtype | None = None,
) -> SavedModel:
    """Write the model in one folder into another, as safetensors and with nothing else in it.

    Configurations, tokenizer, chat templates, custom code and card come along; training state, checkpoints and other
    formats do not. Safetensors are streamed, so memory is bounded by the largest tensor; `.bin` files are read without
    running anything in them. A source that perdure saved is compared with its manifest on the way.

    Args:
        source: A folder with a model or adapter: safetensors or `.bin`, one file or shards.
        out: Where to; as in `save_model`, it is replaced at once, and only when everything is written.
        max_shard_size: The largest weights file, in bytes or as "5GB".
        dtype: Convert floating-point tensors: "bf16", "fp16", "fp32" or the torch dtype; None leaves them as they are.

    Raises:
        NotFound: There is no such folder, or no model in it.
        InvalidInput: The call is wrong, or the source was left half way by an interrupted save.
        Corrupt: The source is damaged: the error names the file, and the tensor where it can.
        SaveFailed: The disk refused; `out` is as it was.

    >>> export("runs/a/checkpoint-200", "out", dtype="bf16")  # doctest: +SKIP
    """
    folder, limit, to = Path(source).expanduser(), parse_size(max_shard_size), _dtype(dtype)
    found = find_weights(folder)
    if os.path.realpath(folder) == os.path.realpath(Path(out).expanduser()):
        raise InvalidInput("Source and target are the same folder; nothing was written.", hint="Name another target.")
    if is_interrupted(folder):
        raise InvalidInput(
            f"{folder} was left half way by an interrupted save.",
            hint=f"Complete that first: perdure verify --recover {folder}",
        )
    manifest = _manifest_of(folder, found)
    saved = manifest.files if manifest else {}
    kind = kind_in(folder, manifest, is_adapter=found.is_adapter)
    named = _named_adapters(saved)
    names = [name for name in _other_names(manifest) if name not in named] if manifest else other_files(folder)
    with pinned(folder), stage(Path(out)) as staged:
        warnings = []
        for weights in (found, *(WeightFiles(name=name, files=(name,)) for name in named)):
            tensors = (streams.from_safetensors if weights.is_safe else streams.from_pickles)(folder, weights, saved)
            tensors = streams.converted(tensors, to) if to else tensors
            if found.is_adapter:
                target = PurePosixPath(weights.name).with_name(ADAPTER_WEIGHTS)
                (staged.path / target.parent).mkdir(exist_ok=True, parents=True)
                write_stream(staged, tensors, str(target), NO_LIMIT)
            else:
                write_stream(staged, tensors, WEIGHTS, limit)
            warnings += tensors.warnings
        for name in names:
            _copy(folder, name, staged, saved.get(name))
        if to and CONFIG in names:
            _set_dtype(staged.path / CONFIG, streams.torch_name(to))
        stale = stale_in(staged.target, kind, with_tokenizer=any(map(is_tokenizer, names)))
        committed = staged.commit(kind, stale=stale)
        path = staged.target
    return SavedModel(path=path, kind=kind, files=committed.files, warnings=tuple(warnings))


def _dtype(dtype: str | torch.dtype | None) -> str | None:
    if dtype is None:
        return None
    known = _DTYPES.get(str(dtype).removeprefix("torch."))
    if known is None:
        raise InvalidInput(f"dtype={dtype!r} is not known here; nothing was written.", hint="Use bf16, fp16 or fp32.")
    return known


def _manifest_of(folder: Path, found: WeightFiles) -> Manifest | None:
    """The manifest, which must name the very weights that are there; None for a folder that perdure did not save."""
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    weights = {name for name in manifest.files if is_weights(name) and not name.endswith(".json")}
    if odd := sorted(weights.symmetric_difference(found.files)):
        raise Corrupt(
            f"The weights in {folder} are not those that were saved: {', '.join(odd)}.",
            path=folder / odd[0],
            hint=f"See what differs with: perdure verify {folder}",
        )
    return manifest


def _other_names(manifest: Manifest) -> list[str]:
    """All that was saved beside the weights; of a checkpoint, further adapters but no training state."""
    names = sorted(name for name in manifest.files if not is_weights(name))
    if is_kind(manifest.kind):
        return names
    return [name for name in names if belongs_to_model(name) or PurePosixPath(name).name == ADAPTER_CONFIG]


def _named_adapters(saved: Iterable[str]) -> list[str]:
    """The weights of the adapters that lie in folders of their own."""
    return sorted(name for name in saved if "/" in name and PurePosixPath(name).name == ADAPTER_WEIGHTS)


def _copy(folder: Path, name: str, staged: Stage, entry: FileEntry | None) -> None:
    source, target = inside(folder, name), staged.path / name
    if not source.is_file():
        raise Corrupt(f"{folder / name} is missing: the manifest names it.", path=folder / name)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    try:
        streams.compare_file(target, entry)
    except Corrupt as error:
        raise Corrupt(f"{folder / name} is not what was saved.", path=folder / name) from error


def _set_dtype(path: Path, dtype: str) -> None:
    document = json.loads(path.read_bytes())
    for key in ("dtype", "torch_dtype"):
        if key in document:
            document[key] = dtype
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
