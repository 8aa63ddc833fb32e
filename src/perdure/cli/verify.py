"""`perdure verify`: is a saved folder, to the byte, what was saved?"""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from pathlib import Path

import click

import perdure
from perdure.cli.common import human_bytes, json_option

_EXAMPLES = """\b
Examples:
  perdure verify out
  perdure verify out --json | jq .problems
  perdure verify out --accept README.md    record an edit that you meant to make
"""


def _hints(folder: Path, found: perdure.Verification) -> list[str]:
    kinds = {problem.kind for problem in found.problems}
    where = shlex.quote(str(folder))
    hints = []
    if any(problem.path == "README.md" and problem.kind == "changed" for problem in found.problems):
        hints.append(f"If you meant to edit README.md: perdure verify {where} --accept README.md")
    if "interrupted" in kinds:
        hints.append(f"Complete the save that was interrupted: perdure verify {where} --recover")
    if kinds & {"missing", "changed", "unreadable"} and any(p.path != "README.md" for p in found.problems):
        hints.append("Use another copy of this folder (an earlier checkpoint, the Hub), or save the model again.")
    return hints


def _top(path: str) -> str:
    first, slash, _ = path.partition("/")
    return first + slash


@click.command(epilog=_EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Also count files that belong to no save and that no loader reads.")
@click.option(
    "--accept", multiple=True, metavar="FILE", help="First record FILE as it is now: an edit you meant to make."
)
@click.option("--recover", is_flag=True, help="First complete a save that was interrupted while it replaced files.")
@json_option
def command(folder: Path, strict: bool, accept: tuple[str, ...], recover: bool, as_json: bool) -> None:
    """Compare every file of a saved FOLDER with its manifest.

    Names each file, and each tensor, that is not as it was saved, and finds missing and extra files.
    Exits with 0 if the folder is whole and with 1 if it is not.
    """
    total = sum(path.stat().st_size for path in folder.glob("*.safetensors")) if sys.stderr.isatty() else 0
    with click.progressbar(length=total, label="Verifying", file=sys.stderr, hidden=not total) as bar:
        found = perdure.verify(folder, recover=recover, accept=accept, progress=bar.update)
    whole = found.ok and not (strict and found.extra)
    if as_json:
        click.echo(json.dumps({**found.as_document(), "ok": whole}, indent=2))
    else:
        for problem in found.problems:
            click.echo(str(problem))
        for path, count in Counter(_top(path) for path in found.extra).items():
            click.echo(
                f"extra: {path} ({count} files of no save)" if path.endswith("/") else f"extra: {path} (of no save)"
            )
        verdict = "whole" if whole else "NOT what was saved"
        click.echo(f"{found.path}: {verdict} ({found.files} files, {human_bytes(found.nbytes)} compared)")
        for hint in _hints(folder, found):
            click.echo(hint, err=True)
    sys.exit(0 if whole else 1)
