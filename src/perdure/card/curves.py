"""A run's curves as one small picture, readable on a white page and on a dark one."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from perdure._optional import install_line
from perdure.card.markdown import one_line
from perdure.card.render import Picture
from perdure.card.training import Point

CURVES = "training_curves.png"
# Each has a contrast of at least 3:1 with white and with the near-black of dark pages.
_COLOURS = ("#3b82f6", "#ea580c", "#16a34a", "#a855f7", "#db2777", "#0891b2")
_GREY = "#808080"
_MAX_PANELS = 3
_REWARDS = "rewards/.+/mean"  # one of each function, in a panel for all
# What people look at first, whatever else a trainer logs; all others come in the order in which they were logged.
_FIRST = ("loss", "reward", _REWARDS, "rewards/margins", "rewards/accuracies", ".*loss", ".*accuracy")
_CLOCK = ("_runtime", "_per_second", "_time", "epoch", "learning_rate", "grad_norm", "num_tokens", "total_flos")

_log = logging.getLogger("perdure")


def picture_of(history: Mapping[str, Sequence[Point]]) -> Picture | None:
    """What a picture of these curves shows; None where no metric has two points."""
    panels = _panels(history)
    if not panels:
        return None
    names = [one_line(name) for panel in panels for name in panel]
    return Picture(name=CURVES, description=f"Curves over the steps of training: {', '.join(names)}"[:300])


def draw(history: Mapping[str, Sequence[Point]]) -> bytes | None:
    """The curves as a PNG with a transparent background, always the same bytes for the same curves.

    None where there is nothing to draw, and where matplotlib is not installed: the log then says what to install.
    """
    panels = _panels(history)
    if not panels:
        return None
    if find_spec("matplotlib") is None:
        _log.info("The card has no picture of the training: for one, %s", install_line("plots"))
        return None
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context(mpl.rcParamsDefault):
        # One above the other: side by side they would be too small on a phone.
        figure = Figure(figsize=(4, 1.9 * len(panels)), dpi=140, layout="constrained")
        FigureCanvasAgg(figure)
        for index, panel in enumerate(panels):
            axes = figure.add_subplot(len(panels), 1, index + 1)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            _plot(axes, {name: history[name] for name in panel})
        held = io.BytesIO()
        figure.savefig(held, format="png", transparent=True, metadata={"Software": None})
    return held.getvalue()


def _plot(axes: Any, curves: Mapping[str, Sequence[Point]]) -> None:
    for colour, (name, points) in zip(_COLOURS, curves.items(), strict=False):
        # parse_math off: a name may hold dollar signs.
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.8, marker="o" if len(points) < 20 else "",
                  markersize=3, label=_shown(name))  # fmt: skip
    legend = axes.legend(frameon=False, labelcolor=_GREY, fontsize=9)
    for label in (*legend.get_texts(), axes.set_xlabel("step", color=_GREY, fontsize=9)):
        label.set_parse_math(False)
    axes.tick_params(colors=_GREY, labelsize=9)
    axes.grid(visible=True, color=_GREY, alpha=0.25, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_color(_GREY)
        spine.set_visible(side in ("left", "bottom"))


def _shown(name: str) -> str:
    shown = "".join(character for character in one_line(name)[:40] if ord(character) < 0x250)
    return shown.lstrip("_") or "metric"  # a label that begins with "_" is none to matplotlib


def _panels(history: Mapping[str, Sequence[Point]]) -> list[list[str]]:
    """Which curves share a panel: one of the training and the same of the evaluation; what matters most first."""
    panels: dict[str, list[str]] = {}
    for name, points in history.items():
        if len(points) > 1 and not name.endswith(_CLOCK):
            metric = name.removeprefix("eval_").removeprefix("train_")
            panels.setdefault(re.sub(_REWARDS, "rewards/*/mean", metric), []).append(name)
    return [panels[metric] for metric in sorted(panels, key=_rank)][:_MAX_PANELS]


def _rank(metric: str) -> int:
    return next((rank for rank, name in enumerate(_FIRST) if re.fullmatch(name, metric)), len(_FIRST))
