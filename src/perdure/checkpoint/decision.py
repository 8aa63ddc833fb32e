"""Whether a call of `save` begins one: what each rank says at the end of a step, and what follows for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perdure.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What all ranks do.

    Attributes:
        begins: Whether they save.
        signal: The signal that is granted by it, and asks them to stop; None where none came.
    """

    begins: bool
    signal: str | None


def say(*, step: int, due: bool, force: bool, signal: str | None, busy: bool) -> dict[str, Any]:
    """What one rank says, as JSON knows it.

    Args:
        signal: Which one it received.
        busy: Whether it is still writing the save before.
    """
    return {"step": step, "due": due, "force": force, "signal": signal, "busy": busy}


def decide(said: Sequence[Mapping[str, Any]], *, latest: int | None, stopping: bool, skips: bool) -> Decision:
    """What follows of what every rank said, the first of them the one that writes.

    Args:
        latest: The step that was saved, or restored, last.
        stopping: Whether a signal was granted before.
        skips: Whether a save is left out that would have to wait for the one before.

    Raises:
        InvalidInput: The ranks are not at the same step, or one is to be saved that lies before the latest.
    """
    steps = [one["step"] for one in said]
    if len(set(steps)) > 1:
        raise InvalidInput(f"The ranks are not at the same step: {steps}; nothing was written.")
    signal = None if stopping else next((one["signal"] for one in said if one["signal"]), None)
    forced = any(one["force"] for one in said)
    due = any(one["due"] for one in said) and not (skips and said[0]["busy"])
    begins = forced or ((due or signal is not None) and steps[0] != latest)
    if begins and latest is not None and steps[0] < latest:
        raise InvalidInput(
            f"Step {latest} was saved, and now comes step {steps[0]}: a restore would go on from the later one; "
            "nothing was written.",
            hint="Count on; or go back with restore(state), and delete what came after.",
        )
    return Decision(begins=begins, signal=signal)
