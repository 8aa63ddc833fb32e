"""The documents keep up with the code: every command, public name and link in them exists, and none is missing."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import perdure
from perdure.cli.app import COMMANDS, cli

ROOT = Path(perdure.__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented_and_has_examples(command: str) -> None:
    assert f"perdure {command}" in TEXT
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    assert f"perdure {command}" in (found.epilog or found.help or "")


def test_no_document_names_a_command_that_is_not_there() -> None:
    named = set(re.findall(r"(?:`|\$ |\n)perdure ([a-z]+)\b", TEXT))
    assert named <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_documents_compiles(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(block, page.name, "exec")
