"""Hold on to the files of a job, so that nobody can take them away: neither rotation nor a later save.

Large files are held by hard links, which cost no disk until the folder lets go of them. A save of ours never writes
into a file that is there, so what is linked stays as it is. Other programs do, so where there is no manifest to tell
whose files they are, they are copied.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from perdure.errors import Corrupt, NotFound, PerdureError
from perdure.folder import is_interrupted
from perdure.folder.commit import save_failed
from perdure.format.names import MANIFEST
from perdure.io.durable import fsync_file, fsync_folder, make_folders, write_file
from perdure.io.locks import pinned
from perdure.publishing.selection import select, size_of

_LINKED_FROM = 2**20  # bytes; what is smaller may be edited in place by a person, and costs nothing to copy


def pin(folder: Path, into: Path, *, training_state: bool) -> int:
    """Hold the files of `folder` that a push sends, in the new folder `into`; durable when this returns.

    Returns:
        Their bytes.

    Raises:
        NotFound, InvalidInput: There is no such folder, or no model in it.
        Corrupt: A save into it stopped half way, or a file is missing.
        SaveFailed: The disk refused. Nothing was pinned.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder. Nothing was queued.")
    try:
        with pinned(folder):
            return _pin(folder, into, training_state=training_state)
    except PerdureError:
        shutil.rmtree(into, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(into, ignore_errors=True)
        raise save_failed(into, error) from error


def _pin(folder: Path, into: Path, *, training_state: bool) -> int:
    if is_interrupted(folder):
        raise Corrupt(
            f"A save into {folder} stopped half way. Nothing was queued.",
            path=folder,
            hint=f"Complete it with: {shlex.join(['perdure', 'verify', '--recover', str(folder)])}",
        )
    selection = select(folder) if training_state else select(folder).without_training_state()
    ours = MANIFEST in selection.files
    make_folders(into)
    for path, content in selection.files.items():
        place = into / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            write_file(place, [content])
        elif content.is_file():
            _hold(content, place, link=ours)
        else:
            raise Corrupt(f"{content} is missing: the manifest names {path}. Nothing was queued.", path=content)
    for parent, _, _ in os.walk(into):
        fsync_folder(Path(parent))
    return sum(map(size_of, selection.files.values()))


def _hold(file: Path, place: Path, *, link: bool) -> None:
    if link and file.stat().st_size >= _LINKED_FROM:
        try:
            os.link(file.resolve(), place)
        except OSError:  # another filesystem, or one without links: then it is copied
            pass
        else:
            return
    shutil.copyfile(file, place)
    fsync_file(place)
