"""Which checkpoint a trainer goes on from: the newest good one, ours or the Trainer's own."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.checkpoint.catalog import CheckpointInfo, checkpoints
from perdure.checkpoint.ranks import of_rank
from perdure.checkpoint.reading import read_document
from perdure.checkpoint.resume import Unusable
from perdure.checkpoint.snapshot import KIND
from perdure.checks.verify import verify
from perdure.distributed.group import Group
from perdure.errors import Corrupt, InvalidInput, NotFound, PerdureError
from perdure.folder.paths import resolve
from perdure.format.manifest import read_manifest
from perdure.format.names import MANIFEST
from perdure.integrations import attach_stock
from perdure.state.state import RNG

TRAINER_STATE = "trainer_state.json"
_MAX_STATE = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A checkpoint to go on from; `nbytes` of one that perdure wrote, which alone are restored by us."""

    path: Path
    is_ours: bool
    nbytes: int


def named(group: Group, asked: str | os.PathLike[str]) -> Choice:
    """The checkpoint that somebody asked for, all of it compared with what was saved, since no other will do.

    Raises:
        NotFound: There is no such checkpoint.
        InvalidInput: That is the folder of a run, or no folder's name.
        Corrupt: It is damaged.
    """

    def look() -> tuple[str, bool, int] | None:
        if group.rank:
            return None
        _check_asked(asked)
        path = resolve(Path(asked))
        if (outer := next(filter(_is_checkpoint, path.parents), None)) is not None and not _is_checkpoint(path):
            message = f"{path} is in a checkpoint, and is none itself; nothing was trained."
            raise InvalidInput(message, hint=f"trainer.train(resume_from_checkpoint={str(outer)!r})")
        if not path.is_dir():
            raise NotFound(f"There is no checkpoint in {path}.", hint=_instead(path))
        if not _is_checkpoint(path) and checkpoints(path):
            message = f"{path} is the folder of a run, not one of its checkpoints; nothing was trained."
            raise InvalidInput(message, hint=_instead(path / "checkpoint-N"))
        is_ours = (path / MANIFEST).exists()
        if problem := _problem(path) or (is_ours and "; ".join(map(str, verify(path).problems))):
            raise unusable(path, problem, "Nothing was changed.")
        return str(path), is_ours, read_manifest(path).nbytes if is_ours else 0

    found = group.agree(look)[0]
    assert found is not None, "rank 0's"
    path, is_ours, nbytes = found
    return Choice(path=Path(path), is_ours=is_ours, nbytes=nbytes)


def _check_asked(asked: object) -> None:
    hint = "trainer.train(resume_from_checkpoint=True) goes on from the newest; None, or nothing, begins at zero."
    if not isinstance(asked, (str, os.PathLike)):
        kind = type(asked).__name__
        raise InvalidInput(f"resume_from_checkpoint is a path or True, and this is {asked!r} ({kind}).", hint=hint)
    if not os.fspath(asked):
        raise InvalidInput("resume_from_checkpoint is empty; nothing was trained.", hint=hint)
    if asked in ("True", "False", "None"):
        raise InvalidInput(f"resume_from_checkpoint is the text {asked!r}; leave its quotes out.", hint=hint)


def unusable(path: Path, problem: str, outcome: str) -> Corrupt:
    """The error for a checkpoint that somebody asked for, and that is damaged."""
    return Corrupt(
        f"{path} cannot be used: {problem.rstrip('.')}. {outcome}",
        path=path,
        hint=_instead(path),
    )


def _is_checkpoint(path: Path) -> bool:
    with suppress(PerdureError):
        if read_manifest(path).kind == KIND:
            return True
    return any((path / name).exists() for name in attach_stock.OPTIMIZER)


def _instead(path: Path) -> str:
    """What to type to go on from another checkpoint than the one in `path`."""
    others = [one for one in checkpoints(path.parent) if one.path != path] if path.parent.is_dir() else []
    if whole := [one for one in others if one.state == "whole"]:
        return f"The newest that is whole: trainer.train(resume_from_checkpoint={str(whole[-1].path)!r})"
    if others:
        return "The newest that can be used: trainer.train(resume_from_checkpoint=True)"
    return "To begin at zero: trainer.train()"


def considered(group: Group, one: CheckpointInfo) -> Choice:
    """One of the run's checkpoints, as good as can be known before it is read.

    Raises:
        Unusable: It is damaged, or was never finished.
    """

    def look() -> tuple[str, bool]:
        if group.rank:
            return "", False
        return one.problem if one.state == "damaged" else _problem(one.path), (one.path / MANIFEST).exists()

    problem, is_ours = group.agree(look)[0]
    if problem:
        raise Unusable(problem)
    return Choice(path=one.path, is_ours=is_ours, nbytes=one.nbytes)


def _problem(path: Path) -> str:
    """What is wrong with what the trainer itself reads of a checkpoint; empty when it is good."""
    try:
        is_ours = (path / MANIFEST).exists()
        if is_ours and TRAINER_STATE in (manifest := read_manifest(path)).files:
            read_document(path, manifest, TRAINER_STATE)
        read_state(path)
    except PerdureError as error:
        return error.message
    return "" if is_ours else attach_stock.problem(path)


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint's `trainer_state.json`.

    Raises:
        Corrupt: It has none, so it was never finished, or it cannot be read.
    """
    file = path / TRAINER_STATE
    try:
        if not any(path.iterdir()):
            raise Corrupt("it is an empty folder", path=path)
        if not file.exists():
            message = f"it has no {TRAINER_STATE}: it was never finished, or not written by a trainer's own method"
            raise Corrupt(message, path=file)
        if file.stat().st_size > _MAX_STATE:
            raise Corrupt(f"{file} is too large", path=file)
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Corrupt(f"its {TRAINER_STATE} cannot be read", path=file) from error
    if not isinstance(found, dict):
        raise Corrupt(f"its {TRAINER_STATE} is not an object", path=file)
    return found


def holds_only_model(path: Path) -> bool:
    """Whether a checkpoint that perdure wrote was saved with `save_only_model`."""
    return set(of_rank(read_manifest(path).files, 0)) == {"model", RNG}
