from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """The metadata and the text of a model's card, which names no folder of this machine."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert str(folder) not in text
    assert "None" not in text
    return yaml.safe_load(front), body
