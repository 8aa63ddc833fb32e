"""Which of a trainer's checkpoints stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perdure.checkpoint.policy import Checkpoint, Keep


@dataclass(slots=True, kw_only=True)
class Rotation:
    """`keep`, or as many as `save_total_limit` says; the newest and the trainer's best stay in any case.

    Attributes:
        total: How many stay in all, the best among them; None or less than one keeps all.
        best: The step of the best checkpoint by the trainer's own measure, as of the save under way.
    """

    keep: Keep | None
    total: int | None
    best: int | None = None

    def condemned(self, checkpoints: Iterable[Checkpoint], saved: int) -> list[Checkpoint]:
        """Which of these whole checkpoints may go, oldest first."""
        ordered = sorted(checkpoints, key=lambda one: one.step)
        if self.keep is not None:
            return [one for one in self.keep.condemned(ordered, saved) if one.step != self.best]
        if self.total is None or self.total < 1:
            return []
        staying = {saved, ordered[-1].step, self.best}
        free = [one for one in ordered if one.step not in staying]
        return free[: max(0, len(ordered) - self.total)]
