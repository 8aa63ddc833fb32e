"""`perdure verify`: is a saved folder, to the byte, what was saved?"""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import perdure
from perdure.cli.common import human_bytes, json_option

_EXAMPLES = """\b
Examples:
  perdure verify out
  perdure verify out --json | jq .problems
  perdure verify out --accept README.md    record an edit that you meant to make
  perdure verify runs/a                    every checkpoint of a run
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


def _checkpoints_in(folder: Path) -> tuple[perdure.CheckpointInfo, ...]:
    """A run's checkpoints; none where the folder itself is a saved one."""
    if (folder / "perdure.json").exists() or not folder.is_dir():
        return ()
    return perdure.checkpoints(folder)


def _verify_run(
    run: Path, checkpoints: Sequence[perdure.CheckpointInfo], *, strict: bool, recover: bool, as_json: bool
) -> int:
    documents = []
    for number, info in enumerate(checkpoints, 1):
        if sys.stderr.isatty():
            click.echo(f"Verifying {info.path.name} ({number} of {len(checkpoints)})", err=True)
        documents.append({"step": info.step, **_verified(info.path, strict=strict, recover=recover)})
    whole = all(document["ok"] for document in documents)
    if as_json:
        click.echo(json.dumps({"path": str(run.absolute()), "ok": whole, "checkpoints": documents}, indent=2))
        return 0 if whole else 1
    for document in documents:
        for told in document["told"]:
            click.echo(f"{document['path']}: {told}")
        click.echo(f"{document['path']}: {'whole' if document['ok'] else 'NOT what was saved'}")
    good = sum(bool(document["ok"]) for document in documents)
    click.echo(f"{run}: {good} of {len(documents)} checkpoints are whole")
    return 0 if whole else 1


def _verified(checkpoint: Path, *, strict: bool, recover: bool) -> dict[str, Any]:
    try:
        found = perdure.verify(checkpoint, recover=recover)
    except perdure.PerdureError as error:  # its manifest is not there, or cannot be trusted
        return {"path": str(checkpoint.absolute()), "ok": False, "kind": error.kind, "told": [error.message]}
    told = [*map(str, found.problems), *(f"extra: {path} (of no save)" for path in found.extra if strict)]
    return {**found.as_document(), "ok": found.ok and not (strict and found.extra), "told": told}


@click.command(epilog=_EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Also count files that belong to no save and that no loader reads.")
@click.option(
    "--accept", multiple=True, metavar="FILE", help="First record FILE as it is now: an edit you meant to make."
)
@click.option("--recover", is_flag=True, help="First complete a save that was interrupted while it replaced files.")
@json_option
def command(folder: Path, strict: bool, accept: tuple[str, ...], recover: bool, as_json: bool) -> None:
    """Compare every file of a saved FOLDER with its manifest; of a run, every checkpoint.

    Names each file, and each tensor, that is not as it was saved, and finds missing and extra files.
    Exits with 0 if the folder is whole and with 1 if it is not.
    """
    if checkpoints := _checkpoints_in(folder):
        if accept:
            raise click.UsageError("--accept is for one saved folder: name a checkpoint.")
        sys.exit(_verify_run(folder, checkpoints, strict=strict, recover=recover, as_json=as_json))
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
