"""docs/reference says of every public name, command and option what its docstring and its help say."""

from __future__ import annotations

import inspect

import click
import pytest
from reference import ERRORS, FOLDER, GROUPS, PAGES, commands, entry, error_entry, members

import perdure

NAMES = [name for names in GROUPS.values() for name in names]
PYTHON, COMMANDS = ((FOLDER / page).read_text() for page in PAGES)
STALE = "write the pages anew: scripts/check --fix, or python tests/docs/reference.py"


def test_every_public_name_is_in_one_group() -> None:
    assert sorted([*NAMES, *ERRORS, "__version__"]) == perdure.__all__


@pytest.mark.parametrize("name", [*NAMES, *ERRORS])
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(perdure, name)
    assert inspect.getdoc(value)
    for method, made in members(value):
        assert inspect.getdoc(made), f"{name}.{method} says nothing of itself"
    assert (error_entry if name in ERRORS else entry)(name) in PYTHON, STALE


@pytest.mark.parametrize("name", ["save_model", "verify", "export", "attach", "finish", "publish", "Checkpointer"])
def test_what_most_people_call_says_what_it_takes_and_shows_an_example(name: str) -> None:
    described = entry(name)
    assert "Args:" in described and ("```pycon" in described or "```python" in described)


def test_every_option_says_what_it_does() -> None:
    for name, command in commands():
        assert f"## {name}\n" in COMMANDS, STALE
        for option in (one for one in command.params if isinstance(one, click.Option)):
            assert option.help, f"{name} {option.opts[0]}"
            assert all(f"`{flag}" in COMMANDS for flag in (*option.opts, *option.secondary_opts)), STALE


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_are_up_to_date(page: str) -> None:
    assert (FOLDER / page).read_text() == PAGES[page](), STALE
