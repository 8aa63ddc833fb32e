"""What a folder is that was named where a saved model was meant, and what to name or type instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from perdure.format.names import MANIFEST, holds_weights

_CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")


def instead_of(folder: Path) -> str:
    """The hint for who named `folder`; empty where nothing in it tells what was meant."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return _of_what_is_gone(folder)
    if MANIFEST not in names and any(map(holds_weights, names)):
        command = shlex.join(["perdure", "export", str(folder), "OUT"])
        return f"It is a model that something else saved. Make one with a manifest of it: {command}"
    if steps := list(_checkpoints(folder, names)):
        newest = max(steps, key=lambda step: ((folder / f"checkpoint-{step}" / MANIFEST).exists(), step))
        return f"It is a run. Name one of its checkpoints; the newest is {folder / f'checkpoint-{newest}'}"
    if runs := runs_in(folder):
        return f"There are runs in it: name one, such as {runs[0]}"
    return ""


def runs_in(folder: Path) -> list[Path]:
    """The folders in `folder` that hold checkpoints, by name."""
    with suppress(OSError):
        return sorted({path.parent for path in folder.glob("*/checkpoint-*") if _CHECKPOINT.fullmatch(path.name)})
    return []


def _of_what_is_gone(folder: Path) -> str:
    """For who named a checkpoint that was deleted, or a folder beside the runs."""
    with suppress(OSError):
        if any(_checkpoints(folder.parent, {path.name for path in folder.parent.iterdir()})):
            return f"See which checkpoints there are: {shlex.join(['perdure', 'ls', str(folder.parent)])}"
    return ""


def _checkpoints(folder: Path, names: set[str]) -> Iterator[int]:
    for name in names:
        if (match := _CHECKPOINT.fullmatch(name)) and (folder / name).is_dir():
            yield int(match[1])
