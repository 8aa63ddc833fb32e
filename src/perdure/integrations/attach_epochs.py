"""Where a resumed run goes on: in which epoch, from which batch, or with nothing but an epoch's end.

A checkpoint that is written after an epoch's last step comes before what the trainer does at the epoch's end: its logs,
its evaluation, and what follows from that (a scheduler's step, the best model, a checkpoint). The trainer, by its count
of steps, would begin with the next epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from transformers import EarlyStoppingCallback
from transformers.trainer_utils import has_length

from perdure.integrations.attach_state import Arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What a checkpoint says of the epoch under way, as `attach_state.Progress` does, and of what makes up a step."""

    epoch: int
    batches: int
    over: bool
    ended: bool
    stopped: bool
    steps_in_epoch: int
    arguments: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """Where training goes on.

    Attributes:
        epochs: Epochs done.
        batches: Batches taken of the next.
        owes_end: All that is left to do in that one is its end.
        told: In words, that the run was interrupted elsewhere; empty where it was here.
    """

    epochs: int
    batches: int
    owes_end: bool = False
    told: str = ""


def going_on(trainer: Any, saved: Position, counted: Going, steps_in_epoch: int) -> Going:
    """Where a run goes on.

    What its checkpoint says counts, since epochs may have been cut short (`control.should_epoch_stop`). The trainer's
    own count of steps does where an epoch's batches are not what they were, or are to be begun anew.

    Args:
        counted: The trainer's own count.
        steps_in_epoch: How many steps that takes an epoch to have.
    """
    if is_over(trainer):
        epochs = trainer.state.num_train_epochs
        return Going(epochs=epochs, batches=0) if saved.ended else _left(saved, owes_end=True)
    is_next = saved.ended and (saved.over or not saved.stopped)
    place = Going(epochs=saved.epoch + 1, batches=0) if is_next else _left(saved, owes_end=saved.over)
    skips = not trainer.args.ignore_data_skip
    is_stream = not has_length(trainer.train_dataset)  # its steps tell nothing
    is_same = saved.steps_in_epoch == steps_in_epoch and not Arguments(trainer).differences(saved.arguments)
    if skips and (is_stream or is_same):
        return place
    if not counted.batches and not saved.ended and saved.epoch == counted.epochs - 1:
        return _left(saved, owes_end=True)
    if counted.epochs == place.epochs and (counted.batches == place.batches or not skips):
        return counted
    told = (
        f"the checkpoint is of epoch {place.epochs}, after {place.batches} batches. By its steps, which the trainer "
        f"counts now, that is epoch {counted.epochs}, after {counted.batches}: training goes on there"
    )
    return replace(counted, told=told)


def _left(saved: Position, *, owes_end: bool) -> Going:
    return Going(epochs=saved.epoch, batches=saved.batches, owes_end=owes_end)


def is_over(trainer: Any) -> bool:
    """Whether no step is to come: all are done, or early stopping, as restored, has lost its patience."""
    return trainer.state.global_step >= trainer.state.max_steps or any(
        callback.early_stopping_patience_counter >= callback.early_stopping_patience
        for callback in trainer.callback_handler.callbacks
        if isinstance(callback, EarlyStoppingCallback)
    )
