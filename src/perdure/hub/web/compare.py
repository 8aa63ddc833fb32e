"""The checkpoints of a repository side by side: branches named for a step, and tags, with their metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Final

from starlette.responses import Response

from perdure.hub.core import Call
from perdure.hub.git import MAIN, GitRepo
from perdure.hub.web import chart, metrics, view
from perdure.hub.web.chart import Chart, Sample
from perdure.hub.web.metrics import Measured

_STEP: Final = re.compile(r"(?:(?P<run>.+)-)?step-(?P<step>[0-9]{1,18})")
_MOST: Final = 200
_CHARTS: Final = 8
_COLUMNS: Final = 12
_SERIES: Final = 6
TAGS: Final = " tags"
"""The run that tags are shown as; no name of a branch, so none can be taken for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A revision to compare: `run` is the branch its checkpoints were taken from, or says that it is a tag."""

    name: str
    run: str
    step: int | None
    moment: float
    measured: Measured


def checkpoints(call: Call) -> Response:
    """Metrics of the main branch, of checkpoint branches and of tags: plots over steps, and a table."""
    with call.git() as git:
        names = _revisions(git)
        rows = [_checkpoint(git, name, run, step) for name, run, step in names[:_MOST]]
        columns = _columns(rows)
        charts = [made for column in columns[:_CHARTS] if (made := _plot(column, rows)) is not None]
        return view.render(
            call,
            git,
            "checkpoints.html",
            tab="checkpoints",
            revision=MAIN,
            rows=rows,
            columns=columns[:_COLUMNS],
            charts=charts,
            tags_run=TAGS,
            left_out=len(names) - len(rows),
            metrics_left_out=max(0, len(columns) - _CHARTS),
            runs_left_out=max(0, len({row.run for row in rows} - {TAGS}) - _SERIES),
        )


def _revisions(git: GitRepo) -> list[tuple[str, str, int | None]]:
    """Name, run and step of each: main, tags, then checkpoints, those of main first and each run's newest first."""
    steps = [
        (name, match["run"] or MAIN, int(match["step"])) for name in git.branches() if (match := _STEP.fullmatch(name))
    ]
    steps.sort(key=lambda found: (found[1] != MAIN, found[1], -found[2]))
    tags = [(f"refs/tags/{name}", TAGS, None) for name in git.tags()]
    return [(MAIN, MAIN, None), *tags, *steps]


def _checkpoint(git: GitRepo, name: str, run: str, step: int | None) -> Checkpoint:
    commit = git.resolve(name)
    measured = metrics.of(git, commit)
    return Checkpoint(
        name=name.removeprefix("refs/tags/"),
        run=run,
        step=measured.step if step is None else step,
        moment=commit.commit_time,
        measured=measured,
    )


def _columns(rows: list[Checkpoint]) -> list[str]:
    """Metrics by how many revisions have them: what can be compared comes first."""
    counts: dict[str, int] = {}
    for row in rows:
        for name in row.measured.metrics:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])


def _plot(column: str, rows: list[Checkpoint]) -> Chart | None:
    series: dict[str, list[Sample]] = {}
    for row in rows:
        if row.step is not None and column in row.measured.metrics:
            series.setdefault(row.run, []).append((row.step, row.measured.metrics[column], row.name))
    tags = {TAGS: series.pop(TAGS)} if TAGS in series else {}
    return chart.plot(column, dict(islice(series.items(), _SERIES)) | tags)
