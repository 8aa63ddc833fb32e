"""Add or replace small files of a saved folder, and keep its manifest true."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from perdure.errors import InvalidInput, NotFound
from perdure.folder.commit import stage
from perdure.folder.paths import resolve
from perdure.format.manifest import Manifest, read_manifest
from perdure.format.names import MANIFEST, check_name, is_weights


def amend(folder: Path, files: Mapping[str, bytes]) -> Manifest:
    """Write `files` (path within the folder → content) into a folder that perdure saved, and record them.

    Everything else in the folder, and in the manifest, stays as it is.

    >>> amend(Path("out"), {"README.md": b"# My model"})  # doctest: +SKIP

    Raises:
        NotFound: The folder has no manifest.
        Corrupt: Its manifest is damaged; nothing was written.
        InvalidInput: A path leads out of the folder, or is that of the manifest or of weights.
        SaveFailed: The system refused; the old files are whole.
    """
    folder = resolve(folder)
    for name in files:
        _check(name)
    read_manifest(folder)  # a folder that was never saved is refused before anything is staged
    with stage(folder, inside=True) as staged:
        for name, data in files.items():
            staged.write(name, data)
        return staged.amend()


def record(folder: Path, names: Iterable[str]) -> Manifest:
    """Take files of a saved folder into its manifest as they are now: a person edited them, and meant to.

    Raises:
        NotFound: There is no such file, or it is none of the save's: what a person added stays theirs.
        InvalidInput: A name is that of weights, which nobody edits by hand; or leads out of the folder.
    """
    known = read_manifest(resolve(folder)).files
    contents: dict[str, bytes] = {}
    for name in names:
        _check(name)
        if name not in known:
            raise NotFound(f"{name} is no file of the save in {folder}; it is yours, and stays as it is.")
        path = folder / name
        if not path.is_file() or path.is_symlink():
            raise NotFound(f"There is no file {name!r} in {folder}.")
        contents[name] = path.read_bytes()
    return amend(folder, contents)


def _check(name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        raise InvalidInput(f"{error}; nothing was written.") from error
    if name == MANIFEST or is_weights(PurePosixPath(name).name):
        raise InvalidInput(
            f"{name} is written by a save as a whole: a difference there is damage, not an edit. Nothing was written."
        )
