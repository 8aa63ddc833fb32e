"""`save_model`: one call that leaves a whole, verified, loadable model folder behind."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure._optional import require
from perdure.errors import InvalidInput
from perdure.folder import stage
from perdure.format.hub_id import is_hub_id
from perdure.format.names import MANIFEST, check_name, is_weights
from perdure.format.shards import parse_size
from perdure.model.saved import SavedModel, stale_in

if TYPE_CHECKING:
    import torch

_log = logging.getLogger("perdure")


def save_model(
    model: torch.nn.Module,
    folder: str | os.PathLike[str],
    *,
    tokenizer: Any = None,
    max_shard_size: int | str = "5GB",
    safe_serialization: bool = True,
    base_model: str | None = None,
    base_model_revision: str | None = None,
    extra_files: Mapping[str, bytes] | None = None,
) -> SavedModel:
    """Save a model for inference: durable, verified, and put in place at once.

    Tensors are written as the model's own `save_pretrained` writes them (names, dtypes, shapes, bytes, index).
    Configurations are written fit for inference: the tokenizer's EOS ends a generation, the KV cache is on; the live
    model is not changed. At every instant `folder` holds the old model or the new one (docs/concepts/commit.md says
    what that cannot promise to readers who open files one by one); files there that belong to no model stay. In a
    distributed run, call it on the main process only.

    Args:
        model: A transformers model, a PEFT model (its adapters are saved, the base is not), or any `torch.nn.Module`
            (with its `config`, if it has one).
        folder: Where to; parents are made, and an older model there is replaced.
        tokenizer: A tokenizer or multimodal processor to save beside it.
        max_shard_size: The largest weights file, in bytes or as "5GB"; one tensor that is larger gets its own file.
        safe_serialization: False writes legacy `pytorch_model.bin` instead of safetensors.
        base_model: The Hub id of the model that an adapter belongs to, where it was loaded from a folder.
        base_model_revision: The commit or tag of `base_model`.
        extra_files: Small files to commit with the model (`README.md`), by their path within the folder.

    Raises:
        InvalidInput: The model cannot be saved as it is (no data, sharded, …), or the call is wrong.
        SaveFailed: The disk refused. In both cases nothing was replaced.
        MissingDependency: A library is missing that this model needs.

    Example:
        >>> saved = perdure.save_model(model, "out", tokenizer=tokenizer)  # doctest: +SKIP
        >>> AutoModelForCausalLM.from_pretrained(saved.path)  # doctest: +SKIP
    """
    torch = require("torch", "save_model")
    from perdure.model import adapter, weights
    from perdure.model import write as writing
    from perdure.model.kind import kind_of
    from perdure.model.tokenizer import write_tokenizer

    limit = parse_size(max_shard_size)
    _check(extra_files or {}, base_model, tokenizer)
    if not isinstance(model, torch.nn.Module):
        raise InvalidInput(
            f"The model is a {type(model).__name__}, not a torch.nn.Module; nothing was written.",
            hint="Pass the model itself, not its state dict.",
        )
    model = weights.unwrap(model)
    kind = kind_of(model)
    with stage(Path(folder)) as staged:
        if kind == "adapter":
            _refuse_base_folder(adapter.base_of(model), staged.target)
            warnings = writing.write_adapters(staged, model, safe_serialization, base_model, base_model_revision)
        elif kind == "model":
            warnings = writing.write_transformers_model(staged, model, tokenizer, limit, safe_serialization)
        else:
            warnings = writing.write_module(staged, model, limit, safe_serialization)
        if tokenizer is not None:
            warnings += write_tokenizer(tokenizer, staged.path)
        for name, data in (extra_files or {}).items():
            staged.write(name, data)
        manifest = staged.commit(kind, stale=stale_in(staged.target, kind, tokenizer is not None))
        target = staged.target
    for warning in warnings:
        _log.warning("%s: %s", target, warning)
    return SavedModel(path=target, kind=kind, files=manifest.files, warnings=tuple(warnings))


def _check(extra_files: Mapping[str, bytes], base_model: str | None, tokenizer: Any) -> None:
    if tokenizer is not None and not callable(getattr(tokenizer, "save_pretrained", None)):
        raise InvalidInput(
            f"The tokenizer is a {type(tokenizer).__name__}; nothing was written.",
            hint="Pass the tokenizer or processor itself, as AutoTokenizer.from_pretrained returns it.",
        )
    for name in extra_files:
        try:
            check_name(name)
        except ValueError as error:
            raise InvalidInput(f"{error}; nothing was written.") from error
        if name == MANIFEST or is_weights(name):
            raise InvalidInput(f"{name} is written by the save itself; it cannot be an extra file.")
    if base_model is not None and not is_hub_id(base_model):
        raise InvalidInput(
            f"base_model={base_model!r} is not a model's id on the Hub; nothing was written.",
            hint='Give it as "organisation/name", never as a path: others do not have your disk.',
        )


def _refuse_base_folder(base: object, target: Path) -> None:
    """An adapter replaces the model in its folder: that must not be the one model that it cannot do without."""
    if isinstance(base, str) and base and Path(base).is_dir() and os.path.realpath(base) == str(target):
        raise InvalidInput(
            f"{target} holds the base model of this adapter; saving the adapter there would replace it. "
            "Nothing was written.",
            hint="Save the adapter into a folder of its own.",
        )
