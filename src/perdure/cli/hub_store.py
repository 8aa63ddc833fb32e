"""What the subcommands of `perdure hub` share: the store they work on, and tokens and moments as options."""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from perdure.errors import PerdureError, Unavailable

if TYPE_CHECKING:
    from perdure.hub.db import Database

_Command = TypeVar("_Command", bound=Callable[..., Any])

_UNITS: Final = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


def store_option(command: _Command) -> _Command:
    """`--dir`: the hub's folder; passed as `folder`."""
    return click.option(
        "--dir",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("perdure-hub"),
        show_default=True,
        help="The hub's folder.",
    )(command)


@contextmanager
def named(folder: Path) -> Iterator[None]:
    """Name the store in the commands that errors of the block advise to type."""
    try:
        yield
    except PerdureError as error:
        error.hint = error.hint.replace("--dir DIR", f"--dir {quote(str(folder))}")
        raise


@contextmanager
def opened(folder: Path, *, read_only: bool = False) -> Iterator[Database]:
    """The store's database, for the length of the block."""
    from perdure.hub.db import open_database

    db = open_database(folder, read_only=read_only)
    try:
        with named(folder):
            yield db
    except sqlite3.OperationalError as error:
        raise Unavailable(
            f"The store in {folder} cannot be changed now: {error}. Nothing was changed.",
            hint="A server that is busy with it lets go in a moment: try again. Otherwise free some disk space.",
        ) from error
    finally:
        db.close()


def expires_option(command: _Command) -> _Command:
    """`--expires`: when a token ends, in seconds since 1970; passed as `expires`, None when never."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        return None if value is None else moment(value)

    return click.option(
        "--expires",
        callback=read,
        metavar="WHEN",
        help="Span (12h, 90d, 4w) or date (2027-01-31, UTC).  [default: never]",
    )(command)


def moment(text: str) -> float:
    """What a span from now or a date means, in seconds since 1970.

    Raises:
        click.BadParameter: It is neither, or not in the future.

    >>> moment("2127-01-31")
    4957027200.0
    """
    span = re.fullmatch(r"(\d{1,6})([hdw])", text)
    try:
        if span:
            found = time.time() + int(span[1]) * _UNITS[span[2]]
        else:
            found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a span (12h, 90d, 4w) nor a date (2027-01-31).") from None
    if found <= time.time():
        raise click.BadParameter(f"{text!r} is not in the future.")
    return found


def token_option(command: _Command) -> _Command:
    """`--token`: one's own choice of a token; passed as `token`, None to make one."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        return sys.stdin.readline().strip() if value == "-" else value

    return click.option(
        "--token",
        callback=read,
        help="The token itself, instead of a random one; - reads it from standard input, where no other user of this "
        "machine sees it.",
    )(command)


def show_token(token: str | None, made: str) -> None:
    """Show a token that was made here, once; one that was given is not repeated: output ends up in logs."""
    if token is None:
        click.echo("Token (shown this once):", err=True)
        click.echo(made)


def day(moment: float | None) -> str:
    """A moment for people.

    >>> day(0.0), day(None)
    ('1970-01-01', 'never')
    """
    return "never" if moment is None else datetime.fromtimestamp(moment, tz=timezone.utc).strftime("%Y-%m-%d")


def show_table(rows: list[tuple[str, ...]]) -> None:
    """Rows in columns, the first row their names."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
