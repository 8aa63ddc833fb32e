"""What a trainer knows beside its model, optimizer and data, as components of a State."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from transformers.trainer_utils import has_length

from perdure.errors import InvalidInput
from perdure.state.tree import encode

# Of TRL's trainers; a trainer has some of them. Each is a number or a nest of numbers and tensors.
_COUNTERS = ("_step", "_total_train_tokens", "_current_train_step_time", "entropy_coef", "_last_world_entropy")


def synced_reference(trainer: Any) -> torch.nn.Module | None:
    """The reference model, where training changes it (TRL's `sync_ref_model`): a frozen one is made anew each time."""
    callbacks = trainer.callback_handler.callbacks
    synced = (one for one in callbacks if any(cls.__name__ == "SyncRefModelCallback" for cls in type(one).__mro__))
    return next((callback.ref_model for callback in synced), None)


class Arguments:
    """What must be the same for a resumed run to be the interrupted one; data and parameters are compared elsewhere."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, int]:
        """The arguments by name."""
        return {
            "world size": self._trainer.args.world_size,
            "batch size": self._trainer._train_batch_size,
            "gradient accumulation": self._trainer.args.gradient_accumulation_steps,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Nothing: they are only compared."""

    def differences(self, document: Mapping[str, int]) -> list[str]:
        """Which of them are not what they were."""
        here = self.state_dict()
        return [
            f"the {name} was {document.get(name)}, and is {value}"
            for name, value in here.items()
            if document.get(name) != value
        ]


class Progress:
    """How far training has come: what the loop sums up, what TRL's trainers count, and generations not yet used.

    Attributes:
        epoch: The epoch under way.
        batches: How many of its batches were taken.
        steps_in_epoch: How many steps an epoch has, by the length of the data.
        seconds_before: How long the run has trained before this process went on with it.
        ended: The end of that epoch (its logs, its evaluation) is done, or being done.
        stopped: It ended since training did.
        last: Norm of the gradient and learning rate of the last step, which the end of an epoch logs.
        restored_at: The epoch and its batches that were restored.
    """

    def __init__(self, trainer: Any) -> None:
        self.epoch = 0
        self.batches = self.steps_in_epoch = 0
        self.ended = self.stopped = False
        self.last: tuple[Any, float | None] = None, None
        self.seconds_before = 0.0
        self.restored_at: tuple[int, int] | None = None
        self._began: float | None = None
        self._steps = 0
        self._trainer = trainer
        self._loop: dict[str, Any] | None = None

    @property
    def over(self) -> bool:
        """The epoch has no step left: all are done, or it is cut short. Of a stream only what follows can tell."""
        trainer = self._trainer
        steps = -(-self.batches // trainer.args.gradient_accumulation_steps)
        is_last = has_length(trainer.train_dataset) and steps >= self.steps_in_epoch
        return bool(trainer.control.should_epoch_stop) or is_last

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        trainer = self._trainer
        return {
            "epoch": self.epoch,
            "batches": self.batches,
            "steps_in_epoch": self.steps_in_epoch,
            "over": self.over,
            "ended": self.ended,
            "stopped": self.stopped,
            "last": self.last,
            "seconds": self.seconds_before + time.time() - (self._began or time.time()),
            "loop": {
                "loss": trainer._tr_loss,
                "loss_logged": trainer._total_loss_scalar,
                "last_logged": trainer._globalstep_last_logged,
                "first_step": getattr(trainer, "_initial_global_step", 0),  # transformers 5.3 always counts from zero
            },
            "counters": {name: getattr(trainer, name) for name in _COUNTERS if hasattr(trainer, name)},
            "metrics": _plain(getattr(trainer, "_metrics", {})),
            "generated": trainer._buffered_inputs if self._is_amid_generations() else None,
            "shown": _shown(trainer),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what was saved, but for the loop's own, which the trainer is still to reset: see `take_up_loop`."""
        trainer = self._trainer
        self._loop = dict(state["loop"])
        self.restored_at = int(state["epoch"]), int(state["batches"])
        self.last = state["last"]
        self.seconds_before = float(state["seconds"])
        for name, value in state["counters"].items():
            if name in _COUNTERS and hasattr(trainer, name):
                setattr(trainer, name, value)
        for mode, metrics in state["metrics"].items():
            mine = getattr(trainer, "_metrics", {}).get(mode, {})
            mine.clear()
            mine.update(metrics)
        if state["generated"] is not None and hasattr(trainer, "_buffered_inputs"):
            trainer._buffered_inputs = _moved(state["generated"], trainer.args.device)
        if state["shown"] is not None and hasattr(trainer, "_logs"):
            _show(state["shown"], trainer._logs)

    def boundary(self, norm: Any, learning_rate: float | None) -> None:
        """A step is done; or, the second time after the same step, the epoch."""
        steps, self._steps = self._steps, self._trainer.state.global_step
        self.ended = steps == self._steps
        self.stopped = self.ended and self._trainer.control.should_training_stop
        if learning_rate is not None:
            self.last = norm, learning_rate

    def take_up_loop(self) -> None:
        """Have the loop's sums go on from what was restored; when training is about to begin, or to end."""
        self._began = self._began or time.time()
        if (loop := self._loop) is not None:
            trainer, self._loop = self._trainer, None
            self._steps = trainer.state.global_step
            trainer._tr_loss = loop["loss"].to(trainer.args.device)
            trainer._total_loss_scalar = loop["loss_logged"]
            trainer._globalstep_last_logged = loop["last_logged"]
            trainer._initial_global_step = loop["first_step"]

    def _is_amid_generations(self) -> bool:
        trainer = self._trainer
        if getattr(trainer, "_buffered_inputs", None) is None:
            return False
        return bool(trainer._step % (trainer.args.steps_per_generation * trainer.num_iterations))


def _plain(metrics: Mapping[str, Mapping[str, list[Any]]]) -> dict[str, dict[str, list[Any]]]:
    return {mode: {name: list(values) for name, values in named.items()} for mode, named in metrics.items()}


def _shown(trainer: Any) -> dict[str, Any] | None:
    """What TRL shows of the latest generations where `log_completions` is set: columns, and columns by name.

    None where it holds what cannot be expressed without pickle, pictures for example: no save is to fail of that.
    """
    if not getattr(trainer, "log_completions", False):
        return None
    shown = {
        name: list(part) if isinstance(part, deque) else {column: list(values) for column, values in part.items()}
        for name, part in trainer._logs.items()
    }
    try:
        encode(shown, "completions")
    except InvalidInput:
        return None
    return shown


def _show(shown: Mapping[str, Any], logs: Mapping[str, Any]) -> None:
    for name, part in shown.items():
        columns = [(logs[name], part)] if isinstance(part, list) else [(logs[name][one], part[one]) for one in part]
        for mine, saved in columns:
            mine.clear()
            mine.extend(saved)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, device) for item in value)
    return value
