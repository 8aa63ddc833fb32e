"""Before a push: the folder is whole and stays so, its manifest knows the card, and what goes out is selected."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from perdure.checks import verify as check
from perdure.errors import Corrupt, NotFound
from perdure.folder import amend, is_interrupted
from perdure.format.manifest import read_manifest
from perdure.format.names import CARD, MANIFEST
from perdure.io.digest import as_text, digest_bytes
from perdure.io.locks import pinned
from perdure.publishing.secrets import require_clean
from perdure.publishing.selection import Selection, select


@contextmanager
def prepared(
    folder: Path, *, verify: bool, training_state: bool = False, allow: Collection[str] = ()
) -> Iterator[Selection]:
    """What is to be sent of `folder`, which is whole; until the block ends nobody replaces, amends or deletes it.

    Args:
        verify: Read every file and compare it with the manifest.
        training_state: Whether a checkpoint's training state is sent too.
        allow: Findings of the scan for secrets to pass over.

    Raises:
        NotFound, InvalidInput: There is no such folder, or no model in it.
        Corrupt: The folder is not what was saved.
        CheckFailed: Something in it must not leave the machine.
    """
    while True:
        if is_interrupted(folder):
            raise Corrupt(
                f"A save into {folder} stopped half way. Nothing was sent.",
                path=folder,
                hint=f"Complete it with: {shlex.join(['perdure', 'verify', '--recover', str(folder)])}",
            )
        ours = (folder / MANIFEST).exists()
        if ours and (folder / CARD).is_file():
            take_over_card(folder)
        stamp = _stamp(folder)
        if ours and verify:
            _require_whole(folder)
        if not folder.is_dir():
            raise NotFound(f"{folder} is not a folder. Nothing was sent.")
        with pinned(folder):
            if _stamp(folder) == stamp:  # otherwise there was a save while we read, and all of it is to be read again
                selection = _select(folder, training_state=training_state)
                require_clean(selection.files, allow=allow)
                yield selection
                return


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What changes with every save: each writes a manifest of its own."""
    try:
        found = (folder / MANIFEST).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns


def _select(folder: Path, *, training_state: bool) -> Selection:
    selection = select(folder)
    for path, file in selection.files.items():
        if isinstance(file, Path) and not file.is_file():
            raise Corrupt(f"{file} is missing: the manifest names {path}. Nothing was sent.", path=file)
    return selection if training_state else selection.without_training_state()


def take_over_card(folder: Path) -> None:
    """A card that a person edited is what they want to say, so the manifest follows it."""
    entry = read_manifest(folder).files.get(CARD)
    card = (folder / CARD).read_bytes()
    if entry is None or entry.digest != as_text(digest_bytes(card)):
        amend(folder, {CARD: card})


def _require_whole(folder: Path) -> None:
    found = check.verify(folder)
    wrong = tuple(problem for problem in found.problems if problem.kind != "extra")  # what no manifest names stays here
    replace(found, problems=wrong).raise_for_problems(outcome="Nothing was sent.")
