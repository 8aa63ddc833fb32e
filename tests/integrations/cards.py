from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard
from ruamel.yaml import YAML

from perdure import Card


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """The metadata and the text of a model's card, which all readers read alike and nothing is wrong with."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert str(folder) not in text
    assert "None" not in text
    said = yaml.safe_load(front)
    assert YAML(typ="safe", pure=True).load(front) == said, "YAML 1.2"
    assert ModelCard(text).data.to_dict() | {"model-index": 0} == said | {"model-index": 0}
    assert {finding.kind for finding in Card.load(folder).check(folder)} <= {"missing"}
    return said, body
