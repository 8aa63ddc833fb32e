"""What several subcommands share: options and the way numbers are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    """`--json`: results for machines, on standard output; passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def human_bytes(count: int) -> str:
    """A size for people, in powers of ten.

    >>> human_bytes(999), human_bytes(5_000_000), human_bytes(1_234_567_890)
    ('999 B', '5.0 MB', '1.2 GB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
