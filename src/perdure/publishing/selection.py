"""Choose the files of a local folder that belong to the model; refuse what may not leave the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import InvalidInput, NotFound
from perdure.folder.recognise import model_files
from perdure.format.instead import instead_of
from perdure.format.manifest import read_manifest
from perdure.format.names import CARD, MANIFEST, holds_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The files to publish.

    Args:
        files: Path in the repository (with `/`) → file on disk.
        left_out: Names in the folder, hidden ones apart, that stay on this machine.
    """

    files: Mapping[str, Path]
    left_out: tuple[str, ...]


def select(folder: Path) -> Selection:
    """The files of `folder` that belong to the model in it.

    With a manifest these are exactly the files that it names, the manifest, and the card. Without one they are the
    files that the ecosystem knows by name as a model's (see `perdure.folder.recognise`): nothing else leaves the
    machine, whatever its ending.

    Raises:
        NotFound: There is no such folder.
        InvalidInput: No model is in it, or a symlink in it leads out of it.
        Corrupt, UnsupportedFormat: Its manifest does not read.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder. Nothing was sent.")
    chosen = _named(folder) if (folder / MANIFEST).exists() else _recognised(folder)
    files = {path: _inside(folder, path) for path in sorted(chosen)}
    tops = {path.partition("/")[0] for path in files}
    others = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")} - tops
    return Selection(files=files, left_out=tuple(sorted(others)))


def git_blob_id(path: Path) -> str:
    """The id that git gives a file's content: what a Hub names files by that it keeps in git itself."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    return _digest_into(digest, path)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content: what a Hub names its large files by."""
    return _digest_into(hashlib.sha256(), path)


def _named(folder: Path) -> set[str]:
    named = {MANIFEST, *read_manifest(folder).files}
    return named | {CARD} if (folder / CARD).is_file() else named


def _recognised(folder: Path) -> set[str]:
    chosen = model_files(folder)
    if not any(map(holds_weights, chosen)):
        raise InvalidInput(
            f"{folder} holds no model: no weights were found at its top level. Nothing was sent.",
            hint=instead_of(folder) or "Name the folder that save_model or save_pretrained wrote.",
        )
    return chosen


def _inside(folder: Path, path: str) -> Path:
    file = folder / path
    try:
        leads_out = not file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError before Python 3.13
        raise InvalidInput(f"{file} is a symlink that leads round in a circle. Nothing was sent.") from error
    if leads_out:
        raise InvalidInput(
            f"{file} is a symlink that leads out of its folder, to {file.resolve()}. Nothing was sent.",
            hint=f"If it belongs to the model, copy it: cp --remove-destination {file.resolve()} {file}",
        )
    return file


def _digest_into(digest: hashlib._Hash, path: Path) -> str:
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
