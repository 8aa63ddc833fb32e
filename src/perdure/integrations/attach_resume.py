"""Which checkpoint a trainer goes on from: the newest good one, ours or the Trainer's own."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.checkpoint import catalog
from perdure.checkpoint.records import Skipped
from perdure.checkpoint.restore import tell_passed_over
from perdure.checks.verify import verify
from perdure.distributed.group import Group
from perdure.errors import Corrupt, NotFound, PerdureError, StateMismatch
from perdure.folder.paths import resolve
from perdure.format.names import MANIFEST

_log = logging.getLogger("perdure")
TRAINER_STATE = "trainer_state.json"
STRICT_HINT = "Resume with what was saved, or take what fits with: perdure.attach(trainer, strict=False)"
_MAX_STATE = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A checkpoint to go on from; `skipped` are newer ones that could not be used."""

    path: Path
    is_ours: bool
    skipped: tuple[Skipped, ...] = ()


def choose(asked: str | os.PathLike[str] | bool | None, output_dir: str) -> Choice | None:
    """What `train(resume_from_checkpoint=asked)` goes on from; None begins at zero.

    Raises:
        NotFound: There is no such checkpoint.
        Corrupt: The one asked for is damaged, or all of them are.
    """
    if asked is None or asked is False:
        return None
    if asked is True:
        return _newest(resolve(Path(output_dir)))
    path = resolve(Path(asked))
    if not path.is_dir():
        raise NotFound(f"There is no checkpoint in {path}.", hint="To begin at zero: trainer.train()")
    if problem := _problem(path):
        raise Corrupt(
            f"{path} cannot be used: {problem}. Nothing was changed.",
            path=path,
            hint="To go on from the newest good one: trainer.train(resume_from_checkpoint=True)",
        )
    return Choice(path=path, is_ours=(path / MANIFEST).exists())


def choose_together(group: Group, asked: str | os.PathLike[str] | bool | None, output_dir: str) -> Choice | None:
    """What rank 0 chooses, on every rank."""

    def look() -> tuple[str, bool, list[tuple[str, str]]] | None:
        if group.rank or (choice := choose(asked, output_dir)) is None:
            return None
        return str(choice.path), choice.is_ours, [(str(one.path), one.reason) for one in choice.skipped]

    if (said := group.agree(look)[0]) is None:
        return None
    path, is_ours, skipped = said
    passed_over = tuple(Skipped(path=Path(one), reason=reason) for one, reason in skipped)
    return Choice(path=Path(path), is_ours=is_ours, skipped=passed_over)


def _newest(run: Path) -> Choice | None:
    if not run.is_dir():
        return None
    catalog.collect(run)
    skipped: list[Skipped] = []
    for info in reversed(catalog.checkpoints(run)):
        problem = info.problem if info.state == "damaged" else _problem(info.path)
        if not problem:
            return Choice(path=info.path, is_ours=(info.path / MANIFEST).exists(), skipped=tuple(skipped))
        _log.warning("%s is not usable: %s", info.path, problem)
        skipped.append(Skipped(path=info.path, reason=problem))
    if skipped:
        raise Corrupt(
            f"None of the {len(skipped)} checkpoints in {run} can be used. The newest: {skipped[0].reason}.",
            path=skipped[0].path,
            hint="To begin at zero: trainer.train()",
        )
    return None


def _problem(path: Path) -> str:
    """What is wrong with a checkpoint; empty when it is good."""
    try:
        if (path / MANIFEST).exists() and (problems := verify(path).problems):
            return "; ".join(map(str, problems))
        read_state(path)
    except PerdureError as error:
        return error.message
    return ""


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint's `trainer_state.json`.

    Raises:
        Corrupt: It has none, so it was never finished, or it cannot be read.
    """
    file = path / TRAINER_STATE
    try:
        if file.stat().st_size > _MAX_STATE:
            raise Corrupt(f"{file} is too large", path=file)
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Corrupt(f"its {TRAINER_STATE} is missing or cannot be read", path=file) from error
    if not isinstance(found, dict):
        raise Corrupt(f"its {TRAINER_STATE} is not an object", path=file)
    return found


def check_trainers_own(trainer: Any, path: Path, *, strict: bool) -> None:
    """Tell of a checkpoint that the Trainer wrote itself, and of what it lacks.

    Raises:
        StateMismatch: Something is missing or differs, and `strict`.
    """
    _log.warning(
        "%s was written by the Trainer itself. Its optimizer, scheduler and generators are pickles, which are read "
        "with weights_only=True and nothing else; what of the run it does not hold begins anew.",
        path,
    )
    found = list(_lacking(trainer, path))
    if found and strict:
        raise mismatch(path, found)
    tell_passed_over(path, found)


def mismatch(path: Path, found: list[str]) -> StateMismatch:
    """The error for a checkpoint that is not of this run."""
    return StateMismatch(
        f"{path} is not of this run: {'; '.join(found)}. Nothing was changed.",
        differences=tuple(found),
        hint=STRICT_HINT,
    )


def _lacking(trainer: Any, path: Path) -> Any:
    args, state = trainer.args, read_state(path)
    rng = "rng_state.pth" if args.world_size <= 1 else f"rng_state_{args.process_index}.pth"
    wanted = {"optimizer": ("optimizer.pt", "optimizer.bin"), "scheduler": ("scheduler.pt",), "generators": (rng,)}
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
