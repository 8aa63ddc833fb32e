"""The table of supported versions says what pyproject.toml allows and constraints.txt pins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import perdure

ROOT = Path(perdure.__file__).parents[2]
TABLE = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", (ROOT / "docs/versions.md").read_text(), re.MULTILINE)


def test_the_trainers_libraries_are_listed() -> None:
    listed = {name for name, _, _ in TABLE}
    assert listed >= {"torch", "transformers", "trl", "peft", "accelerate", "datasets", "huggingface_hub"}


@pytest.mark.parametrize(("name", "oldest", "newest"), TABLE)
def test_the_table_is_true(name: str, oldest: str, newest: str) -> None:
    assert f'"{name}>={oldest}"' in (ROOT / "pyproject.toml").read_text()
    assert f"\n{name}=={newest}\n" in (ROOT / "constraints.txt").read_text()
