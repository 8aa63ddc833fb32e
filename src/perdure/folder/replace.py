"""Replace files of a folder that also holds other things, one by one, so that an interruption loses nothing.

Where perdure owns a folder alone, old and new folder are exchanged in one step (`perdure.folder.commit`). Elsewhere
everything new lies durable in `.perdure-…/new/` inside the folder first, and a journal says what leaves and what comes.
Then index and weights leave; configurations and other files are each exchanged for their successor in one step, so that
none is ever absent (a loader that finds no config may make one up); then the new weights come, their index, and at last
the manifest. So whenever weights can be found, the config beside them is theirs.

Each step is one rename between folders of one filesystem, and what left is kept in `old/` until the end. So after an
interruption the same journal is simply carried out again (`recover`), and after an error it is undone.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from perdure.errors import Corrupt, SaveFailed
from perdure.folder import staging as staging_folders
from perdure.format.names import MANIFEST, check_name, is_weights
from perdure.io import locks
from perdure.io.durable import fsync_folder, write_file

_JOURNAL = "journal.json"
_MAX_JOURNAL = 64 * 2**20


def replace_files(folder: Path, staging: Path, leaving: Iterable[str], coming: Iterable[str]) -> None:
    """Carry out a replacement in `folder`; its lock must be held.

    Args:
        staging: A folder inside `folder`, with the new files durable in `new/`.
        leaving: Paths of existing files that belong to the old model.
        coming: Paths of the new files.

    Raises:
        OSError: A file could not be moved; what was moved has been moved back.
        SaveFailed: Nor could it be moved back; the journal stays, and the next save completes the replacement.
    """
    leave, come = sorted(leaving, key=_leaving_order), sorted(coming, key=_coming_order)
    journal = json.dumps({"leaving": leave, "coming": come}).encode()
    write_file(staging / f"{_JOURNAL}.part", [journal])
    (staging / f"{_JOURNAL}.part").rename(staging / _JOURNAL)
    fsync_folder(staging)
    fsync_folder(folder)
    try:
        _carry_out(folder, staging, leave, come)
    except BaseException as failure:  # an interruption, too, must not leave the folder half way
        try:
            _undo(folder, staging, leave, come)
        except OSError:
            raise SaveFailed(
                f"Replacing the files of {folder} stopped half way ({failure}), and could not be undone. Nothing is "
                f"lost: old and new files are in {folder} and {staging}.",
                hint=f"Mend what is wrong there, then run: perdure verify --recover {shlex.quote(str(folder))}",
            ) from failure
        _drop_journal(staging)
        raise
    discard(staging)


def recover(folder: Path) -> bool:
    """Complete replacements in `folder` that were interrupted, and remove what dead writers left in and beside it.

    Returns whether an interrupted replacement was completed. Writers that are alive are left alone.

    Raises:
        Corrupt: A journal does not read; nothing is touched.
    """
    if not is_interrupted(folder):
        return recover_locked(folder)
    with locks.folder_locked(folder):
        return recover_locked(folder)


def recover_locked(folder: Path) -> bool:
    """`recover` for a caller who holds the folder's lock, or knows that there is nothing to complete."""
    completed = False
    for staging in staging_folders.abandoned(folder):
        if staging.parent == folder and is_pending(staging):
            _carry_out(folder, staging, *_read_journal(staging / _JOURNAL))
            completed = True
        discard(staging)
    return completed


def is_interrupted(folder: Path) -> bool:
    """Whether a replacement in `folder` was begun and its writer is gone; reads only."""
    return any(staging.parent == folder and is_pending(staging) for staging in staging_folders.abandoned(folder))


def is_pending(staging: Path) -> bool:
    """Whether a staging folder has a journal: a replacement that was begun and not finished."""
    return (staging / _JOURNAL).exists()


def discard(staging: Path) -> None:
    """Remove a staging folder; what cannot be removed now is collected by a later save."""
    if is_pending(staging):
        _drop_journal(staging)
    shutil.rmtree(staging, ignore_errors=True)


def _drop_journal(staging: Path) -> None:
    (staging / _JOURNAL).unlink()
    fsync_folder(staging)  # gone for good before the rest goes: half a staging folder must never be carried out


def _carry_out(folder: Path, staging: Path, leave: Sequence[str], come: Sequence[str]) -> None:
    new, old = staging / "new", staging / "old"
    for name in leave:
        in_place = name in come and not os.path.lexists(new / name)
        if not in_place and not os.path.lexists(old / name) and os.path.lexists(folder / name):
            set_aside = _move if is_weights(PurePosixPath(name).name) or name not in come else _link
            set_aside(folder / name, old / name)
    for name in come:
        if os.path.lexists(new / name):
            _move(new / name, folder / name)
    touched = {folder, *(parent for name in (*leave, *come) for parent in (folder / name).parents)}
    for parent in sorted(path for path in touched if path.is_relative_to(folder) and path.is_dir()):
        fsync_folder(parent)
    for parent in sorted((path for path in touched if path.is_relative_to(folder) and path != folder), reverse=True):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()  # an adapter's own folder, say, whose files have all left


def _undo(folder: Path, staging: Path, leave: Sequence[str], come: Sequence[str]) -> None:
    new, old = staging / "new", staging / "old"
    for name in reversed(come):
        if not os.path.lexists(new / name) and os.path.lexists(folder / name):
            _move(folder / name, new / name)
    for name in reversed(leave):
        if os.path.lexists(old / name):
            _move(old / name, folder / name)
    fsync_folder(folder)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _link(source: Path, target: Path) -> None:
    """Give `source` a second name, to be replaced in one step later; where there are no links it moves away."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        source.rename(target)


def _read_journal(path: Path) -> tuple[list[str], list[str]]:
    try:
        if path.stat().st_size > _MAX_JOURNAL:
            raise ValueError("it is too long")
        document = json.loads(path.read_bytes())
        return [check_name(name) for name in document["leaving"]], [check_name(name) for name in document["coming"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Corrupt(
            f"The journal of an interrupted save, {path}, is damaged: {error}. Nothing was touched.",
            path=path,
            hint=f"The new files lie in {path.parent / 'new'}, those replaced so far in {path.parent / 'old'}.",
        ) from error


def _leaving_order(name: str) -> tuple[int, str]:
    if name == MANIFEST:
        return 0, name
    if name.endswith(".index.json"):
        return 1, name
    return (2 if is_weights(PurePosixPath(name).name) else 3), name


def _coming_order(name: str) -> tuple[int, str]:
    if name == MANIFEST:
        return 3, name
    if name.endswith(".index.json"):
        return 2, name
    return (1 if is_weights(PurePosixPath(name).name) else 0), name
