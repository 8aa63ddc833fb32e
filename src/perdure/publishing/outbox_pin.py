"""Hold on to the files of a job, so that nobody can take them away: neither rotation nor a later save.

Large files are held by hard links, which cost no disk until the folder lets go of them. A save of ours never writes
into a file that is there, so what is linked stays as it is. Other programs do, so where there is no manifest to tell
whose files they are, they are copied.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

from perdure.errors import Corrupt, NotFound, PerdureError
from perdure.folder import is_interrupted
from perdure.folder.commit import save_failed
from perdure.format.manifest import read_manifest
from perdure.format.names import MANIFEST, is_in_training_state
from perdure.io.durable import fsync_file, fsync_folder, make_folders, write_file
from perdure.io.locks import pinned
from perdure.publishing.selection import Selection, select

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
    selection = select(folder)
    files = {path: file for path, file in selection.files.items() if training_state or not is_in_training_state(path)}
    ours = MANIFEST in files
    make_folders(into)
    nbytes = 0
    for path, file in files.items():
        if not file.is_file():
            raise Corrupt(f"{file} is missing: the manifest names {path}. Nothing was queued.", path=file)
        place = into / path
        place.parent.mkdir(parents=True, exist_ok=True)
        nbytes += _hold(file, place, link=ours)
    if len(files) < len(selection.files):
        _write_manifest_of(files.keys() & read_manifest(folder).files.keys(), selection, into)
    for parent, _, _ in os.walk(into):
        fsync_folder(Path(parent))
    return nbytes


def _write_manifest_of(names: set[str], selection: Selection, into: Path) -> None:
    """The manifest of what is pinned, where that is not all of the folder."""
    manifest = read_manifest(selection.files[MANIFEST].parent)
    (into / MANIFEST).unlink()
    kept = {name: entry for name, entry in manifest.files.items() if name in names}
    write_file(into / MANIFEST, [replace(manifest, files=kept).encode()])


def _hold(file: Path, place: Path, *, link: bool) -> int:
    size = file.stat().st_size
    if link and size >= _LINKED_FROM:
        try:
            os.link(file.resolve(), place)
        except OSError:  # another filesystem, or one without links: then it is copied
            pass
        else:
            return size
    shutil.copyfile(file, place)
    fsync_file(place)
    return size
