"""When to save, and what to keep: small values, cross-checked when they are made."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from perdure.errors import InvalidInput
from perdure.format.metrics import is_lower_better

_WHOLE = ("steps", "last", "every")


class Checkpoint(Protocol):
    """What policies look at."""

    @property
    def step(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


class Retention(Protocol):
    """Decides which checkpoints stay: `Keep`, or a rule of one's own.

    Example:
        >>> class Tens:
        ...     def condemned(self, checkpoints, saved):
        ...         return [one for one in checkpoints if one.step % 10 and one.step != saved]
        >>> ckpt = perdure.Checkpointer("runs/a", save=perdure.Every(steps=1), keep=Tens())  # doctest: +SKIP
    """

    def condemned(self, checkpoints: Iterable[Checkpoint], saved: int) -> list[Checkpoint]:
        """Which of these whole checkpoints may go, now that the one of step `saved` is committed.

        Args:
            checkpoints: Each with its `step` and `metrics`, that of step `saved` among them.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Save whenever one of these is due.

    Attributes:
        steps: Each time the step passes a multiple of it.
        seconds: So long after the last save began.
        epochs: Each time the epoch passes a multiple of it, which may be a fraction; `save` must be told the epoch.

    >>> Every(steps=200, seconds=600)
    Every(steps=200, seconds=600, epochs=None)
    """

    steps: int | None = None
    seconds: float | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        given = (self.steps, self.seconds, self.epochs)
        if all(value is None for value in given) or any(value is not None and not value > 0 for value in given):
            raise InvalidInput(f"{self} never, or always, is due.", hint="Give one of them, as Every(steps=200).")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Which checkpoints stay; what none of these asks for is deleted, once a newer one is committed.

    The newest whole checkpoint always stays, and with `best` the best. So does one that is being read or uploaded. A
    damaged one neither counts nor goes: it may be all that is left of something, and `perdure ls` tells of it.

    Attributes:
        last: So many of the newest; None keeps all.
        best: A metric by which the best stays, beside the last. Lower is better if its name ends in "loss" or
            "perplexity", higher otherwise.
        greater_is_better: Says so where the name does not.
        every: Each checkpoint whose step is a multiple of it, for ever.
    """

    last: int | None = None
    best: str | None = None
    greater_is_better: bool | None = None
    every: int | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        if not isinstance(self.best, str | None):
            raise InvalidInput(f"best={self.best!r} is no name of a metric.", hint='As Keep(best="eval_loss").')
        if any(value is not None and value < 1 for value in (self.last, self.every)):
            raise InvalidInput(f"{self}: last and every count from 1.")
        if self.greater_is_better is not None and self.best is None:
            raise InvalidInput(f"{self} does not say which metric is better when greater.", hint='Add best="…".')

    def best_of(self, checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
        """The best by the metric, the newest of equals; None where none has a comparable value of it."""
        if self.best is None:
            return None
        name = self.best
        lower = is_lower_better(name) if self.greater_is_better is None else not self.greater_is_better
        rated = [one for one in checkpoints if not math.isnan(one.metrics.get(name, math.nan))]
        sign = -1 if lower else 1
        return max(rated, key=lambda one: (sign * one.metrics[name], one.step), default=None)

    def condemned(self, checkpoints: Iterable[Checkpoint], saved: int) -> list[Checkpoint]:
        """Which of these whole checkpoints may go, oldest first, now that the one of step `saved` is committed."""
        ordered = sorted(checkpoints, key=lambda one: one.step)
        if self.last is None:
            return []
        staying = {saved, *(one.step for one in ordered[-self.last :])}
        if best := self.best_of(ordered):
            staying.add(best.step)
        return [one for one in ordered if one.step not in staying and not (self.every and one.step % self.every == 0)]


def unrated(keep: object, metrics: Mapping[str, float]) -> list[str]:
    """What is worth telling of a checkpoint that `keep` cannot compare with others."""
    if not isinstance(keep, Keep) or keep.best is None or keep.best in metrics:
        return []
    known = f"only {', '.join(sorted(metrics))}" if metrics else "no metrics"
    return [
        f'Keep(best="{keep.best}") cannot rate a checkpoint that is saved without it: save was told {known}; '
        f'pass metrics={{"{keep.best}": …}}'
    ]


def check_numbers(policy: Every | Keep) -> None:
    """Refuse text where a number belongs, before it is compared with one."""
    for name in ("steps", "seconds", "epochs", "last", "every"):
        value = getattr(policy, name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InvalidInput(f"{name}={value!r} is no number.")
        if name in _WHOLE and isinstance(value, float):
            raise InvalidInput(f"{name}={value!r} is no whole number.")


def check_policies(save: object, keep: object) -> None:
    """Refuse what is no policy.

    Raises:
        InvalidInput: `save` is no `Every`, or `keep` has no say in what is kept.
    """
    if not isinstance(save, Every | None):
        raise InvalidInput(f"save={save!r} does not say when to save.", hint=f"As save={_meant(save)}.")
    if keep is not None and not hasattr(keep, "condemned"):
        raise InvalidInput(f"keep={keep!r} does not say what to keep.", hint="As keep=Keep(last=3).")


def _meant(save: object) -> str:
    """The policy that somebody most likely means."""
    if isinstance(save, int) and not isinstance(save, bool) and save > 0:
        return f"Every(steps={save})"
    return "Every(epochs=1)" if save in ("epoch", "epochs") else "Every(steps=200)"


class Schedule:
    """Follows a run and says when a save is due by `every`; never, where that is None."""

    def __init__(self, every: Every | None, step: int = 0, epoch: float | None = None) -> None:
        self.every = every
        self.saved(step, epoch)

    def due(self, step: int, epoch: float | None) -> bool:
        """Whether to save at this step."""
        every = self.every
        if every is None:
            return False
        if every.epochs is not None and epoch is None:
            raise InvalidInput(
                f"Saving {every} needs to know the epoch.",
                hint="Pass it: save(step, state, epoch=step / steps_per_epoch)",
            )
        return (
            _passed(step, self._step, every.steps)
            or _passed(epoch or 0, self._epoch, every.epochs)
            or (every.seconds is not None and time.monotonic() - self._time >= every.seconds)
        )

    def saved(self, step: int, epoch: float | None) -> None:
        """A save began, or the run was restored, at this step."""
        self._step, self._epoch, self._time = step, epoch or 0, time.monotonic()


def _passed(now: float, before: float, every: float | None) -> bool:
    return every is not None and _multiples(now, every) > _multiples(before, every)


def _multiples(now: float, every: float) -> int:
    return math.floor(now / every + 1e-9)  # 1.0 // 0.1 is 9
