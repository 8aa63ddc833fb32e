"""How a model came about, as a card may tell it: method, settings, machine, source, energy, and the curves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TypeAlias

from perdure.card.allowed import check, check_text, is_path, is_public_link, is_sayable, is_setting
from perdure.card.codec import MAX_ITEMS, MAX_TEXT
from perdure.card.numbers import amount, plain
from perdure.card.secrets import is_secret

Scalar: TypeAlias = bool | int | float | str
Point: TypeAlias = tuple[float, float]
"""Step and value."""

MAX_POINTS = 500  # of a curve; no picture on a page shows more
LARGEST = 1e100  # of a curve; what is beyond cannot be drawn
MAX_COMMAND = 8000  # characters; a trainer's options are many

NO_SETTINGS: Mapping[str, Scalar] = MappingProxyType({})
NO_TEXT: Mapping[str, str] = MappingProxyType({})
NO_NUMBERS: Mapping[str, float] = MappingProxyType({})
_ARXIV = re.compile(r"\d{4}\.\d{4,5}(v\d+)?|[a-z-]+(\.[A-Z]{2})?/\d{7}")
_NO_CURVES: Mapping[str, tuple[Point, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How the model was trained.

    Args:
        name: As people write it: `SFT`, `DPO`, `GRPO`.
        library: The library that implements it, where it asks to be cited: `TRL`.
        title: The paper's title.
        arxiv: The paper's arXiv id, `YYMM.NNNNN`.
        citation: A BibTeX entry.
    """

    name: str
    library: str | None = None
    title: str | None = None
    arxiv: str | None = None
    citation: str | None = None

    def __post_init__(self) -> None:
        check_text("a method's name, library or title", self.name, self.library, self.title)
        check(self.arxiv is None or _ARXIV.fullmatch(self.arxiv) is not None, "a paper's id is none of arXiv's")
        check(not is_secret(self.citation or "") and not is_path(self.citation or ""), "a citation is none")
        check(len(self.citation or "") <= MAX_TEXT, f"a citation has more than {MAX_TEXT:,} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a model was trained on.

    Args:
        name: Of one device: `NVIDIA H100 80GB HBM3`, or a CPU's model.
        count: How many of them; 1 for a machine's CPU.
        memory: Bytes of each GPU, or of the machine.
    """

    name: str
    count: int = 1
    memory: int | None = None

    def __post_init__(self) -> None:
        check_text("the hardware", self.name)
        check(self.count > 0 and (self.memory is None or self.memory > 0), "there is no hardware")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The code that trained a model, as it lies under git.

    Args:
        commit: The commit that was checked out.
        dirty: Whether tracked files differed from it.
        repository: Its public https address.
        script: The program's path within the repository.
    """

    commit: str
    dirty: bool = False
    repository: str | None = None
    script: str | None = None

    def __post_init__(self) -> None:
        check(re.fullmatch(r"[0-9a-f]{7,64}", self.commit) is not None, "the commit is none of git's")
        check(self.repository is None or is_public_link(self.repository), "the repository is no public web address")
        check_text("the script", self.script)
        check(self.script is None or ".." not in PurePosixPath(self.script).parts, "the script lies elsewhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What a training run used, as CodeCarbon measured it.

    Args:
        kwh: Electricity, in kilowatt-hours.
        co2_kg: Emissions, in kilograms of CO2 equivalent.
        country: Where, by ISO 3166 or in words.
    """

    kwh: float | None = None
    co2_kg: float | None = None
    country: str | None = None

    def __post_init__(self) -> None:
        _check_amounts("energy or emissions", self, "kwh", "co2_kg")
        check_text("the country", self.country)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training run.

    Args:
        method: None for a plain loop or Trainer.
        hyperparameters: Name → value, in the order to show; the `seed` is one of them.
        adapter: The adapter's settings (LoRA's rank, targets …); empty for a full model.
        steps: How many steps of the optimizer.
        epochs: How often the data was seen.
        seconds: How long it took.
        tokens: How many tokens were seen.
        results: Metric → the value it ended with: the loss, the reward.
        history: Metric → its curve, at most 500 points of (step, value) in the order of steps.
        hardware: What it ran on.
        source: The code that ran; None where it is not under git.
        command: What was typed, with paths within the repository only: `python train.py --lr 1e-4`.
        logs: Service → link to the run's log.
        energy: None where nothing measured it.
    """

    method: Method | None = None
    hyperparameters: Mapping[str, Scalar] = field(default_factory=lambda: NO_SETTINGS)
    adapter: Mapping[str, Scalar] = field(default_factory=lambda: NO_SETTINGS)
    steps: int | None = None
    epochs: float | None = None
    seconds: float | None = None
    tokens: int | None = None
    results: Mapping[str, float] = field(default_factory=lambda: NO_NUMBERS)
    history: Mapping[str, tuple[Point, ...]] = field(default_factory=lambda: _NO_CURVES)
    hardware: Hardware | None = None
    source: Source | None = None
    command: str | None = None
    logs: Mapping[str, str] = field(default_factory=lambda: NO_TEXT)
    energy: Energy | None = None

    def __post_init__(self) -> None:
        _check_amounts("the extent of a training", self, "steps", "epochs", "seconds", "tokens")
        object.__setattr__(self, "results", as_metrics(self.results))
        for service, link in self.logs.items():
            check_text("a log's service", service)
            check(is_public_link(link), f"the log at {service} is not a web address")
        settings = (*self.hyperparameters.items(), *self.adapter.items())
        check(len(settings) <= MAX_ITEMS, f"there are more than {MAX_ITEMS:,} settings")
        for name, value in settings:
            check_text("a setting's name", name)
            check(is_setting(name, value), f"the setting {name!r} is empty, a secret, a path or a private host")
        for name, points in self.history.items():
            check(len(points) <= MAX_POINTS, f"the curve of {name[:80]!r} has more than {MAX_POINTS} points")
            can_be_drawn = all(type(n) in (int, float) and not abs(n) > LARGEST for point in points for n in point)
            check(can_be_drawn, f"the curve of {name[:80]!r} has points that are no numbers, or too far off")
        check_text("a metric's name", *self.results, *self.history)
        check(self.command is None or is_sayable(self.command, most=MAX_COMMAND), "the command is none, or too long")


def as_metrics(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Metrics as numbers of Python's own.

    Raises:
        InvalidInput: One of them is no number.
    """
    known = {name: (plain(value), value) for name, value in metrics.items()}
    for name, (number, value) in known.items():
        check(number is not None, f"the metric {str(name)[:80]!r} is {type(value).__name__!s}, and no number")
    return {name: number for name, (number, _) in known.items() if number is not None}


def _check_amounts(what: str, record: object, *names: str) -> None:
    """Refuse what is below zero or endless; NumPy's numbers become Python's own."""
    for name in names:
        if (value := getattr(record, name)) is not None:
            known = amount(value)
            check(known is not None, f"{what}: {name} is {str(value)[:80]}")
            object.__setattr__(record, name, known)
