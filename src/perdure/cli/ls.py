"""`perdure ls`: the checkpoints of a run."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

import perdure
from perdure.cli.common import human_bytes, json_option

_FEW = 3
_OF_THE_CLOCK = ("_runtime", "_per_second", "grad_norm", "learning_rate", "num_tokens", "epoch")
_EXAMPLES = """\b
Examples:
  perdure ls runs/a
  perdure ls runs/a --json | jq -r '.[-1].path'
"""


@click.command(epilog=_EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@json_option
def command(run: Path, as_json: bool) -> None:
    """List the checkpoints in a RUN's folder: step, size, metrics, state.

    A checkpoint is committed (every file there with its size; "whole" in JSON), damaged, or uncommitted. Whether the
    bytes are those that were saved, `perdure verify` says. Of the metrics, those by which a checkpoint is chosen are
    shown, and all with --json. Exits with 1 if one is not committed.
    """
    found = perdure.checkpoints(run)
    if as_json:
        click.echo(json.dumps([one.as_document() for one in found], indent=2))
    elif not found:
        click.echo(f"There are no checkpoints in {run}.{_instead(run)}", err=True)
    else:
        rows = [("STEP", "EPOCH", "SAVED", "SIZE", "STATE", "METRICS"), *map(_row, found)]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            click.echo("  ".join((*cells, row[5])).rstrip())
        for one in found:
            if one.problem:
                click.echo(f"{one.path}: {one.problem}", err=True)
        click.echo(f"Sizes were compared. The bytes, too: {shlex.join(['perdure', 'verify', str(run)])}", err=True)
    sys.exit(0 if all(one.state == "whole" for one in found) else 1)


def _instead(folder: Path) -> str:
    """A line that says what to type for a folder in which no checkpoint is."""
    if runs := sorted({path.parent for path in folder.glob("*/checkpoint-*")}):
        return f"\n  There are runs in it: {shlex.join(['perdure', 'ls', str(runs[0])])}"
    if (folder / "perdure.json").exists() or any(folder.glob("*.safetensors")):
        return f"\n  It is a saved model or checkpoint itself: {shlex.join(['perdure', 'verify', str(folder)])}"
    return ""


def _row(one: perdure.CheckpointInfo) -> tuple[str, ...]:
    saved = "" if one.saved_at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(one.saved_at))
    epoch = "" if one.epoch is None else f"{one.epoch:g}"
    metrics = "  ".join(f"{name}={one.metrics[name]:.4g}" for name in _shown(one.metrics))
    is_whole = one.state == "whole"
    size, state = (human_bytes(one.nbytes), "committed") if is_whole else ("", one.state)
    return str(one.step), epoch, saved, size, state, metrics


def _shown(metrics: Mapping[str, float]) -> list[str]:
    """Which metrics fit a line: all of a few; of what a trainer logs, the loss and what was evaluated first."""
    if len(metrics) <= _FEW:
        return list(metrics)
    names = [name for name in metrics if not name.endswith(_OF_THE_CLOCK)]
    return sorted(names, key=lambda name: (name != "loss", not name.startswith("eval_")))[:_FEW]
