"""`perdure revisions`: what there is to choose from in a repository."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

import perdure
from perdure.cli.chart import chart
from perdure.cli.common import hub_options, json_option

_FEW = 2  # other metrics in a row; all are in --json
_EXAMPLES = """\b
Examples:
  perdure revisions me/my-model
  perdure revisions me/my-model --metric gsm8k/exact_match --plot curve.png
  perdure revisions me/my-model --metric bits_per_byte --lower
  perdure revisions me/my-model --json | jq -r '.[] | select(.best) | .name'
"""


@click.command(epilog=_EXAMPLES)
@click.argument("repo")
@click.option("--metric", help="Compare by this. [default: eval_loss, else loss, else what most of them have]")
@click.option("--lower/--higher", default=None, help="Less, or more, of it is better. [default: less of a loss]")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw the metric over the steps: .png, .svg, .pdf.")
@hub_options
@json_option
def command(
    *,
    repo: str,
    metric: str | None,
    lower: bool | None,
    plot: Path | None,
    endpoint: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """List the branches and tags of REPO with step, date and metrics, and mark the best.

    Metrics are those that were pushed: of a checkpoint's manifest, of the trainer's log, and of the card, where what
    was measured after a push is written too. No weights are fetched.
    """
    with click.progressbar(length=0, label="Reading", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        found = perdure.revisions(
            repo, metric=metric, lower=lower, plot=plot, endpoint=endpoint, token=token, progress=progress
        )
    if plot is not None:
        click.echo(f"Drawn: {plot}", err=True)
    if as_json:
        click.echo(json.dumps([one.as_document() for one in found], indent=2))
        return
    _show(found)
    if metric is not None and all(one.score is None for one in found):
        names = sorted({name for one in found for name in one.metrics})
        click.echo(f"No revision has {metric}. There is: {', '.join(names) or 'no metric at all'}.", err=True)
        sys.exit(1)
    if found and not any(one.metrics for one in found):
        click.echo(
            f"None has metrics. To measure one: perdure evaluate lm-eval TASKS {repo}@REVISION --record", err=True
        )
    best = next((one for one in found if one.best), None)
    if best is not None and best.name != "main":
        where = ["--endpoint", endpoint] if endpoint else []
        again = shlex.join(["perdure", "promote", f"{repo}@{best.name}", "--tag", "v1.0", *where])
        click.echo(f"To make the best one main: {again}", err=True)


def _show(found: Sequence[perdure.Revision]) -> None:
    if not found:
        click.echo("There are no revisions yet.", err=True)
        return
    metric = next((one.metric for one in found if one.metric), None)
    others = sorted({name for one in found for name in one.metrics if name != metric})[:_FEW]
    heads = ["REVISION", "KIND", "STEP", "DATE", "COMMIT", *([metric] if metric else []), *others]
    rows = [heads, *(_row(one, metric, others) for one in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    for one in found:
        if one.problem:
            click.echo(f"{one.name}: {one.problem}", err=True)
    points = sorted(
        {(one.step, one.score, one.best) for one in found if one.step is not None and one.score is not None}
    )
    if metric and len({step for step, _, _ in points}) > 1:
        marked = {(float(step), score) for step, score, best in points if best}
        lines = chart([(float(step), score) for step, score, _ in points], marked=marked)
        click.echo("\n".join(["", f"{metric} over steps", *lines]))


def _row(one: perdure.Revision, metric: str | None, others: Sequence[str]) -> list[str]:
    date = "" if one.committed_at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(one.committed_at))
    cells = [one.name, one.kind, "" if one.step is None else str(one.step), date, one.commit[:12]]
    if metric:
        cells.append("" if one.score is None else f"{one.score:.4g}{' ★' if one.best else ''}")
    return cells + [f"{one.metrics[name]:.4g}" if name in one.metrics else "" for name in others]
