"""What a folder is that was named where a saved model was meant, and what to name or type instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from perdure.format.names import MANIFEST, holds_weights

_CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")


def instead_of(folder: Path) -> str:
    """The hint for who named `folder`; empty where nothing in it tells what was meant."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return ""
    if MANIFEST not in names and any(map(holds_weights, names)):
        command = shlex.join(["perdure", "export", str(folder), "OUT"])
        return f"It is a model that something else saved. Make one with a manifest of it: {command}"
    if steps := list(_checkpoints(folder, names)):
        newest = max(steps, key=lambda step: ((folder / f"checkpoint-{step}" / MANIFEST).exists(), step))
        return f"It is a run. Name one of its checkpoints; the newest is {folder / f'checkpoint-{newest}'}"
    return ""


def _checkpoints(folder: Path, names: set[str]) -> Iterator[int]:
    for name in names:
        if (match := _CHECKPOINT.fullmatch(name)) and (folder / name).is_dir():
            yield int(match[1])
