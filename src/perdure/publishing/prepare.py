"""Before a push: the folder is whole, its manifest knows the card as it is, and what goes out is selected."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from perdure.checks import verify as check
from perdure.errors import Corrupt
from perdure.folder import amend, is_interrupted
from perdure.format.manifest import read_manifest
from perdure.format.names import CARD, MANIFEST
from perdure.io.digest import as_text, digest_bytes
from perdure.publishing.selection import Selection, select


def prepare(folder: Path, *, verify: bool, training_state: bool) -> Selection:
    """What is to be sent of `folder`, which is whole.

    Args:
        verify: Read every file and compare it with the manifest.
        training_state: Whether a checkpoint's training state is sent too.

    Raises:
        Corrupt: The folder is not what was saved.
    """
    if is_interrupted(folder):
        raise Corrupt(
            f"A save into {folder} stopped half way. Nothing was sent.",
            path=folder,
            hint=f"Complete it with: {shlex.join(['perdure', 'verify', '--recover', str(folder)])}",
        )
    selection = select(folder)
    if MANIFEST not in selection.files:
        return selection
    if CARD in selection.files:
        _take_over_card(folder)
    if verify:
        _require_whole(folder)
    for path, file in selection.files.items():
        if isinstance(file, Path) and not file.is_file():
            raise Corrupt(f"{file} is missing: the manifest names {path}. Nothing was sent.", path=file)
    return selection if training_state else selection.without_training_state()


def _take_over_card(folder: Path) -> None:
    """A card that a person edited is what they want to say, so the manifest follows it."""
    entry = read_manifest(folder).files.get(CARD)
    card = (folder / CARD).read_bytes()
    if entry is None or entry.digest != as_text(digest_bytes(card)):
        amend(folder, {CARD: card})


def _require_whole(folder: Path) -> None:
    found = check.verify(folder)
    wrong = tuple(problem for problem in found.problems if problem.kind != "extra")  # what no manifest names stays here
    replace(found, problems=wrong).raise_for_problems(outcome="Nothing was sent.")
