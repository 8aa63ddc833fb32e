"""Where a resumed run goes on: in which epoch, from which batch, or with nothing but an epoch's end.

A checkpoint that is written after an epoch's last step comes before what the trainer does at the epoch's end: its logs,
its evaluation, and what follows from that (a scheduler's step, the best model, a checkpoint). The trainer, by its count
of steps, would begin with the next epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import EarlyStoppingCallback
from transformers.trainer_utils import has_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What a checkpoint says of the epoch under way; the fields are those of `attach_state.Progress`."""

    epoch: int
    batches: int
    ended: bool
    stopped: bool


def going_on(trainer: Any, saved: Position, epochs: int, batches: int) -> tuple[int, int, bool]:
    """Epochs done, batches taken of the next, and whether all that is left to do in that one is its end.

    Args:
        epochs: The trainer's own count, by steps.
        batches: Likewise, of the epoch after these.
    """
    if is_over(trainer):
        return (trainer.state.num_train_epochs, 0, False) if saved.ended else (saved.epoch, saved.batches, True)
    if not trainer.args.ignore_data_skip and not has_length(trainer.train_dataset):  # a stream: steps tell nothing
        is_next = saved.ended and not saved.stopped
        return (saved.epoch + 1, 0, False) if is_next else (saved.epoch, saved.batches, False)
    if not batches and not saved.ended and saved.epoch == epochs - 1:
        return saved.epoch, saved.batches, True
    return epochs, batches, False


def is_over(trainer: Any) -> bool:
    """Whether no step is to come: all are done, or early stopping, as restored, has lost its patience."""
    return trainer.state.global_step >= trainer.state.max_steps or any(
        callback.early_stopping_patience_counter >= callback.early_stopping_patience
        for callback in trainer.callback_handler.callbacks
        if isinstance(callback, EarlyStoppingCallback)
    )
