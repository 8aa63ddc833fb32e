"""Choose the files of a local folder that belong to the model; refuse what may not leave the machine."""

from __future__ import annotations

import io
import shlex
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from perdure.errors import InvalidInput, NotFound
from perdure.folder.recognise import model_files
from perdure.format.instead import instead_of
from perdure.format.manifest import read_manifest
from perdure.format.names import CARD, MANIFEST, holds_weights, is_for_resuming

Content = Path | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The files to publish.

    Args:
        files: Path in the repository (with `/`) → file on disk, or what it holds.
        left_out: Names in the folder, hidden ones apart, that stay on this machine.
    """

    files: Mapping[str, Content]
    left_out: tuple[str, ...]

    def without_training_state(self) -> Selection:
        """The model alone, with a manifest that names no more than that."""
        files = {path: content for path, content in self.files.items() if not is_for_resuming(path)}
        manifest = self.files.get(MANIFEST)
        if len(files) == len(self.files) or not isinstance(manifest, Path):
            return self
        whole = read_manifest(manifest.parent)
        kept = {path: entry for path, entry in whole.files.items() if path in files}
        files[MANIFEST] = replace(whole, files=kept).encode()
        gone = {path.partition("/")[0] for path in self.files.keys() - files.keys()}
        return Selection(files=files, left_out=tuple(sorted({*self.left_out, *gone})))


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
    _require_inside(folder, chosen)
    files: dict[str, Content] = {path: folder / path for path in sorted(chosen)}
    tops = {path.partition("/")[0] for path in files}
    others = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")} - tops
    return Selection(files=files, left_out=tuple(sorted(others)))


def size_of(content: Content) -> int:
    """Bytes of a selected file."""
    return content.stat().st_size if isinstance(content, Path) else len(content)


def opened(content: Content) -> AbstractContextManager[BinaryIO]:
    """A selected file, to be read."""
    return content.open("rb") if isinstance(content, Path) else io.BytesIO(content)


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


def _require_inside(folder: Path, chosen: Collection[str]) -> None:
    """Refuse symlinks that lead elsewhere; all of them are named."""
    out = [file for path in sorted(chosen) if _leads_out(file := folder / path, folder)]
    if out:
        listed = "".join(f"\n  {file} → {file.resolve()}" for file in out)
        copies = [shlex.join(["cp", "--remove-destination", str(file.resolve()), str(file)]) for file in out]
        raise InvalidInput(
            f"Symlinks lead out of the folder. Nothing was sent.{listed}",
            hint="\n  ".join(["What belongs to the model is to be copied:", *copies]),
        )


def _leads_out(file: Path, folder: Path) -> bool:
    try:
        return not file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError before Python 3.13
        raise InvalidInput(f"{file} is a symlink that leads round in a circle. Nothing was sent.") from error
