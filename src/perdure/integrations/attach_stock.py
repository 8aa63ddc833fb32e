"""Checkpoints that the Trainer wrote itself: what of one can be read, without running what its pickles hold."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_pt_utils import safe_globals

from perdure.checkpoint.restore import tell_passed_over
from perdure.errors import PerdureError, StateMismatch
from perdure.format.header import read_header

_log = logging.getLogger("perdure")
STRICT_HINT = "Resume with what was saved, or take what fits with: perdure.attach(trainer, strict=False)"
OPTIMIZER = "optimizer.pt", "optimizer.bin"  # as the Trainer names it
_WEIGHTS = "model*.safetensors", "pytorch_model*.bin", "adapter_model.*", "*/adapter_model.*"
_PICKLES = *OPTIMIZER, "scheduler.pt", "scaler.pt", "rng_state*.pth"


def problem(path: Path) -> str:
    """What of a checkpoint is missing or damaged, so that no trainer can go on from it; empty when nothing is."""
    weights = _found(path, _WEIGHTS)
    if not weights:
        return "it has no model's weights"
    for file in [*weights, *_found(path, _PICKLES)]:
        name = file.relative_to(path)
        try:
            if file.suffix == ".safetensors":
                read_header(file)
            else:
                _load(file)
        except PerdureError as error:
            return error.message
        except Exception:  # a damaged pickle may raise nearly anything, and torch's words advise to run it
            return f"its {name} is damaged, or holds more than data and would have to be run to be read"
    for index in _found(path, ("*.index.json",)):
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return f"its {index.name} is damaged"
        if missing := sorted(shard for shard in map(str, shards) if not (path / Path(shard).name).is_file()):
            return f"its {missing[0]} is missing"
    return ""


def _found(path: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted(file for pattern in patterns for file in path.glob(pattern) if file.is_file())


def _load(file: Path) -> None:
    with safe_globals():
        torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))


def check(trainer: Any, path: Path, state: dict[str, Any], *, strict: bool) -> None:
    """Tell of a checkpoint that the Trainer wrote itself, and of what it lacks.

    Args:
        state: Its `trainer_state.json`.

    Raises:
        StateMismatch: Something is missing or differs, and `strict`.
    """
    _log.warning(
        "%s was written by the Trainer itself. Its optimizer, scheduler and generators are pickles, which are read "
        "with weights_only=True and nothing else; what of the run it does not hold begins anew.",
        path,
    )
    found = list(_lacking(trainer, path, state))
    if found and strict:
        raise mismatch(path, found, "Nothing was changed.")
    tell_passed_over(path, found)


def mismatch(path: Path, found: list[str], outcome: str) -> StateMismatch:
    """The error for a checkpoint that is not of this run."""
    return StateMismatch(
        f"{path} is not of this run: {'; '.join(found)}. {outcome}", differences=tuple(found), hint=STRICT_HINT
    )


def _lacking(trainer: Any, path: Path, state: dict[str, Any]) -> Iterator[str]:
    args = trainer.args
    rng = "rng_state.pth" if args.world_size <= 1 else f"rng_state_{args.process_index}.pth"
    wanted = {"optimizer": OPTIMIZER, "scheduler": ("scheduler.pt",), "generators": (rng,)}
    if getattr(trainer.accelerator, "scaler", None) is not None:
        wanted["scaler"] = ("scaler.pt",)
    for what, names in wanted.items():
        if not any((path / name).is_file() for name in names):
            yield f"it has no {what} ({names[0]} is missing)"
    ranks = len(list(path.glob("rng_state_*.pth"))) or 1
    if ranks != args.world_size:
        yield f"the world size was {ranks}, and is {args.world_size}"
    size = state.get("train_batch_size")
    if size is not None and size != trainer._train_batch_size and not args.auto_find_batch_size:
        yield f"the batch size was {size}, and is {trainer._train_batch_size}"
