"""The checkpoints in a run's folder: which there are, in what state, and how one is taken away. Needs no torch."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perdure.checkpoint.policy import Retention
from perdure.errors import Corrupt, InvalidInput, NotFound, PerdureError
from perdure.folder import is_interrupted, recover
from perdure.format.instead import instead_of
from perdure.format.manifest import read_manifest
from perdure.format.names import MANIFEST, STAGING_PREFIX
from perdure.io import locks
from perdure.io.durable import fsync_folder

_log = logging.getLogger("perdure")
_NAME = re.compile(r"checkpoint-(0|[1-9]\d{0,17})")
_STAGING = re.compile(rf"\.(checkpoint-\d{{1,18}}){re.escape(STAGING_PREFIX)}.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """One checkpoint in a run's folder.

    Attributes:
        state: "whole": committed, and every file there with its size (`perdure verify` compares the bytes, too);
            "damaged": not so; "uncommitted": without a manifest, so never finished, or not perdure's.
        problem: What is wrong with one that is not whole.
        nbytes: Of all its files, as saved.
        saved_at: Seconds since 1970.
    """

    step: int
    path: Path
    state: str
    problem: str = ""
    epoch: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    nbytes: int = 0
    saved_at: float | None = None

    def as_document(self) -> dict[str, Any]:
        """For JSON, which has no infinite numbers: they are text; the path is absolute."""
        metrics = {name: value if abs(value) < float("inf") else str(value) for name, value in self.metrics.items()}
        return {
            "step": self.step, "path": str(self.path.absolute()), "state": self.state, "problem": self.problem,
            "epoch": self.epoch, "metrics": metrics, "bytes": self.nbytes, "saved_at": self.saved_at,
        }  # fmt: skip


def path_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run / f"checkpoint-{step}"


def is_checkpoint(folder: Path) -> bool:
    """Whether this is one checkpoint, whole or not, rather than the folder of a run."""
    if not (folder / MANIFEST).is_file():
        return False
    with suppress(PerdureError):
        return read_manifest(folder).step is not None
    return _NAME.fullmatch(folder.name) is not None


def checkpoints(folder: str | os.PathLike[str]) -> tuple[CheckpointInfo, ...]:
    """The checkpoints in a run's folder, oldest step first; what is still being written is not among them.

    Raises:
        NotFound: There is no such folder, or it cannot be read.
    """
    run = Path(folder)
    try:
        names = [path.name for path in run.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            f"There is no run in {run}: it is not a folder.",
            hint=instead_of(run) or "Name the folder that its checkpoints are in.",
        ) from None
    except OSError as error:
        raise NotFound(
            f"The run in {run} cannot be read: {error.strerror}.", hint="Give yourself permission to read it."
        ) from error
    steps = sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)) and (run / name).is_dir())
    looks = [_look_at(run, step) for step in steps]
    return tuple(one for one in looks if one.state == "whole" or one.path.is_dir())  # or it was just deleted


def _look_at(run: Path, step: int) -> CheckpointInfo:
    path = path_of(run, step)
    try:
        if is_interrupted(path):
            raise Corrupt("a replacement of its files stopped half way")
        manifest = read_manifest(path)
        if manifest.step is None:
            raise NotFound(f"it holds a saved {manifest.kind}, not a checkpoint")
        if manifest.step != step:
            raise Corrupt(f"it is the checkpoint of step {manifest.step}")
        for name, entry in manifest.files.items():
            size = (path / name).stat().st_size if (path / name).is_file() else None
            if size != entry.size:
                raise Corrupt(f"{name} is missing" if size is None else f"{name} is {size} bytes, not {entry.size}")
        saved_at = (path / MANIFEST).stat().st_mtime
    except NotFound as error:
        return CheckpointInfo(step=step, path=path, state="uncommitted", problem=error.message)
    except PerdureError as error:
        return CheckpointInfo(step=step, path=path, state="damaged", problem=error.message)
    except OSError as error:
        return CheckpointInfo(step=step, path=path, state="damaged", problem=error.strerror or str(error))
    return CheckpointInfo(
        step=step, path=path, state="whole", epoch=manifest.epoch, metrics=manifest.metrics,
        nbytes=manifest.nbytes, saved_at=saved_at,
    )  # fmt: skip


def check_new(run: Path, step: int, distrusted: set[Path], restored: int | None) -> None:
    """Refuse to save into a folder from whose later checkpoints the next restore would go on.

    Args:
        distrusted: Which look whole, and are not.
        restored: The step that this run was told to go on from, if any.

    Raises:
        InvalidInput: One is whole, and of this step or a later one, and not the one that was restored.
    """
    try:
        found = checkpoints(run)
    except PerdureError:  # there is none, or the save will tell why it cannot be read
        return
    after = step - 1 if restored is None else restored
    ahead = [one for one in found if one.state == "whole" and one.path not in distrusted and one.step > after]
    if not ahead:
        return
    if restored is None:
        raise InvalidInput(
            f"{run} holds an earlier run, up to step {ahead[-1].step}; this one did not restore it, and is at step "
            f"{step}. A later restore would go on from the earlier run, so nothing was written.",
            hint="Call restore(state) before the first step to go on with it; or name another folder, or delete it.",
        )
    raise InvalidInput(
        f"{run} holds checkpoints after step {restored}, from which this run goes on, up to step {ahead[-1].step}. "
        "A later restore would go on from those, so nothing was written.",
        hint=f"Delete them first, then call save again: {shlex.join(['rm', '-r', *(str(one.path) for one in ahead)])}",
    )


def collect(run: Path) -> None:
    """Remove what dead writers left in a run's folder, and complete what they had begun to put in place."""
    with suppress(OSError):
        targets = {match[1] for path in run.iterdir() if (match := _STAGING.fullmatch(path.name))}
        for name in sorted(targets):
            recover(run / name)


def tidied(run: Path) -> tuple[CheckpointInfo, ...]:
    """The checkpoints in a run's folder, if there is one, after `collect`."""
    try:
        run.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError:
        pass  # there is something that cannot be looked at: not the same as nothing
    collect(run)
    return checkpoints(run)


def rotate(run: Path, keep: Retention, saved: int, distrusted: set[Path]) -> tuple[Path, ...]:
    """Delete what `keep` does not ask for, now that the checkpoint of step `saved` is committed; returns what went.

    Args:
        distrusted: Which look whole, and are not; damaged ones are told of, and added.
    """
    try:
        found = tidied(run)
    except (OSError, PerdureError) as error:  # the save is done all the same
        _log.warning("%s: old checkpoints could not be looked through: %s", run, error)
        return ()
    for one in found:
        if one.state == "damaged" and one.path not in distrusted:
            distrusted.add(one.path)
            _log.warning("%s is damaged, and stays until you delete it: %s", one.path, one.problem)
    whole = [one for one in found if one.state == "whole" and one.path not in distrusted]
    paths = [path_of(run, one.step) for one in keep.condemned(whole, saved)]
    return tuple(path for path in paths if delete(path))


def delete(path: Path) -> bool:
    """Delete a checkpoint, unless somebody is reading or uploading it; False if it stays.

    It loses its name first, so that half of one is never seen; if we die before the rest is done, `collect` does it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if locks.hold(descriptor) is locks.Lock.BUSY:
            return False
        grave = Path(tempfile.mkdtemp(prefix=f".{path.name}{STAGING_PREFIX}", dir=path.parent))
        path.rename(grave / "old")  # as what a save replaced, so that `collect` knows it
        fsync_folder(path.parent)
        shutil.rmtree(grave, ignore_errors=True)
    except OSError as error:
        _log.warning("%s could not be deleted: %s", path, error.strerror)
        return False
    finally:
        locks.release(descriptor)
    return True
