"""Which files of a folder that no manifest describes are the model's: those whose names the ecosystem knows.

Anything else may be a person's own, and a key or a password as well as a note.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perdure.folder.paths import files_of
from perdure.format.names import CARD, CONFIG, is_well_known

_MAX_TEXT = 4 * 2**20  # bytes of a configuration, module or card that is read to see what it refers to
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")
_RELATIVE_IMPORT = re.compile(r"^\s*(?:from\s+\.(\w+)\s+import\b|import\s+\.(\w+)\s*$)", re.MULTILINE)


def model_files(folder: Path) -> set[str]:
    """Paths of the model's files: weights, configurations, tokenizer, card; with the custom code that a configuration
    names and the images that the card shows. Never hidden files, training state, or anything else.
    """
    found = {path for path in files_of(folder) if (folder / path).is_file()}
    card = _text(folder / CARD)
    shown = {name for name in found if "/" not in name and name.lower().endswith(_IMAGES) and name in card}
    known = {name for name in found if is_well_known(name)}
    return known | (found & (shown | _code(folder, known)))


def _code(folder: Path, known: set[str]) -> set[str]:
    """The modules that configurations name for loaders to run, and those that these import."""
    configs = (name for name in known if name == CONFIG or name.endswith("_config.json"))
    todo = [module for name in configs for module in _auto_map(_text(folder / name))]
    files: set[str] = set()
    while todo:
        name = f"{todo.pop()}.py"
        if name not in files:
            files.add(name)
            todo += (one or other for one, other in _RELATIVE_IMPORT.findall(_text(folder / name)))
    return files


def _auto_map(config: str) -> Iterator[str]:
    try:
        content = json.loads(config)
    except (ValueError, RecursionError):
        return
    found: Any = content.get("auto_map") if isinstance(content, dict) else None
    for value in found.values() if isinstance(found, dict) else ():
        for reference in value if isinstance(value, list) else [value]:  # tokenizers: slow and fast
            if isinstance(reference, str) and re.fullmatch(r"\w+\.\w+", reference):  # not another repository's
                yield reference.partition(".")[0]


def _text(path: Path) -> str:
    """A file's text; empty where there is none that could be meant."""
    if not path.is_file() or path.stat().st_size > _MAX_TEXT:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")
