"""`perdure demo`: the whole road in minutes."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from perdure.cli.common import json_option
from perdure.demo.run import EPOCHS, REPO, TAG, Summary, run_demo

_EXAMPLES = """\b
Examples:
  perdure demo                     everything goes into ./perdure-demo
  perdure demo --dir look --port 7999
  perdure demo --json | jq .accuracy
"""
_QUESTION = "What does signal SIGKILL mean?"


@click.command(epilog=_EXAMPLES)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("perdure-demo"),
    show_default=True,
    help="Where everything goes: new, empty, or an earlier demo's, which is then made anew.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The hub's port.  [default: any that is free]")
@click.option(
    "--epochs",
    type=click.IntRange(1, 1000),
    default=EPOCHS,
    show_default=True,
    help="How often the model sees each question; with fewer it is quicker and knows less.",
)
@json_option
def command(*, folder: Path, port: int, epochs: int, as_json: bool) -> None:
    """Fine-tune a small model, kill that, resume, save, describe, publish and load back: the whole road in minutes.

    A language model of 1.1 million parameters learns, on the CPU, to answer questions from this Python's own
    documentation. Half way its process is killed; `perdure.attach` lets the next one go on, and the losses are, bit for
    bit, those of a run that nobody killed. `perdure.finish` saves the model and publishes it, privately, to an embedded
    hub on this machine, and plain transformers loads it back from there. Nothing is downloaded, and nothing leaves this
    machine.
    """
    summary = run_demo(folder, port=port, epochs=epochs)
    commands = _next(summary)
    if as_json:
        click.echo(json.dumps({**_document(summary), "next": commands}, indent=2))
    else:
        _show(summary, commands)


def _show(summary: Summary, commands: list[str]) -> None:
    before, after = summary.accuracy
    receipt, compared = summary.receipt, summary.comparison
    rows = {
        "learned": f"{before:.0%} → {after:.0%} of {sum(summary.pairs.values())} answers exact",
        "killed": f"at step {compared.killed_at} of {len(compared.losses)}, resumed from {compared.resumed_from}: "
        "every loss and all weights as without",
        "model": f"{summary.folder.model}  (README.md in it is its card)",
        "published": f"{receipt.repo} {receipt.tag}, {'private' if receipt.private else 'public'}",
        "url": receipt.url,
        "commit": receipt.commit,
        "token": f"{summary.folder.token}  (the hub's administrator; readable by you only)",
        "time": f"{sum(summary.seconds.values()):.0f} s: "
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in summary.seconds.items()),
    }
    click.echo()
    for name, value in rows.items():
        click.echo(f"  {name:<10} {value}")
    click.echo("\nThe hub has stopped. What to try next:\n")
    for line in commands:
        click.echo(f"  {line}")


def _document(summary: Summary) -> dict[str, Any]:
    return {
        "folder": str(summary.folder.path.absolute()),
        "model": str(summary.folder.model.absolute()),
        "hub": {
            "folder": str(summary.folder.hub.absolute()),
            "url": summary.endpoint,
            "token_file": str(summary.folder.token.absolute()),
        },
        "receipt": dataclasses.asdict(summary.receipt),
        "pairs": summary.pairs,
        "parameters": summary.parameters,
        "accuracy": dict(zip(("before", "after"), summary.accuracy, strict=True)),
        "interruption": dataclasses.asdict(summary.comparison),
        "answer": dataclasses.asdict(summary.answer),
        "seconds": summary.seconds,
    }


def _next(summary: Summary) -> list[str]:
    """Commands that work as printed, in this folder, after the demo."""
    perdure, python = _program(), _near(Path(sys.executable))
    folder, url = summary.folder, summary.endpoint
    port = url.rpartition(":")[2]
    return [
        f"{perdure} verify {_quoted(folder.model)}",
        f"{perdure} serve --dir {_quoted(folder.hub)} --port {port}    # the hub again; then, in another terminal:",
        f'export HF_ENDPOINT={url} HF_TOKEN="$(cat {_quoted(folder.token)})"',
        f"{python} {_quoted(folder.script)} {REPO} {TAG} {shlex.quote(_QUESTION)}",
        f"{perdure} push {_quoted(folder.model)} demo/a-copy --tag {TAG}",
    ]


def _program() -> str:
    """How this command was called, if that works from here."""
    called = Path(sys.argv[0])
    on_path = shutil.which("perdure")
    if on_path and called.exists() and called.samefile(on_path):
        return "perdure"
    return _near(called) if called.name == "perdure" else f"{_near(Path(sys.executable))} -m perdure"


def _near(path: Path) -> str:
    here = Path.cwd()
    return _quoted(path.relative_to(here) if path.is_relative_to(here) else path)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
