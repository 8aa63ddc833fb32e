"""A plot of a metric over the steps of a repository's revisions, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perdure._optional import require
from perdure.errors import InvalidInput, SaveFailed
from perdure.publishing.revision import Revision

_FORMATS = (".png", ".svg", ".pdf")


def plot_scores(revisions: Sequence[Revision], file: Path, *, title: str) -> None:
    """Draw the score of each revision over its step, the best one marked.

    Raises:
        InvalidInput: Nothing can be drawn, or not in a file of this ending.
        MissingDependency: matplotlib is not installed.
        SaveFailed: The disk refused.
    """
    if file.suffix.lower() not in _FORMATS:
        raise InvalidInput(f"A plot is written as {', '.join(_FORMATS)}, not as {file.name}.")
    points = [(one.step, one.score, one) for one in revisions if one.step is not None and one.score is not None]
    if not points:
        raise InvalidInput("There is nothing to plot: no revision has both a step and the metric.")
    figures = require("matplotlib.figure", "A plot of revisions")
    figure = figures.Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    curve = sorted({(step, score) for step, score, _ in points})
    axes.plot(*zip(*curve, strict=True), marker="o", markersize=4)
    for step, score, one in points:
        if one.best:
            axes.plot(step, score, marker="*", markersize=14, color="tab:red")
            axes.annotate(one.name, (step, score), textcoords="offset points", xytext=(6, 6), parse_math=False)
    axes.set_xlabel("step")
    axes.set_ylabel(points[0][2].metric or "", parse_math=False)
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise SaveFailed(f"The plot {file} could not be written: {error.strerror}.") from error
