"""What goes into `trainer_state.json`, as the Trainer writes it, and what is taken from it again."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import deque
from pathlib import Path
from typing import Any

from transformers.trainer_callback import ExportableState

from perdure.card.history import numbers
from perdure.folder.paths import resolve


def encode(state: Any) -> bytes:
    """A `TrainerState` as the file's content."""
    return (json.dumps(dataclasses.asdict(state), indent=2, sort_keys=True) + "\n").encode()


def metrics(state: Any) -> dict[str, float]:
    """Every number that was logged at the step that is done."""
    logged = {
        name: value
        for entry in state.log_history
        if entry["step"] == state.global_step
        for name, value in entry.items()
        if name != "step"
    }
    return numbers(logged)


def note_best(trainer: Any, folder: str) -> str | None:
    """Note in the trainer's state where its best checkpoint is, the one that is about to be saved among them."""
    state = trainer.state
    if trainer.args.save_strategy != "no" and state.best_global_step:
        name = f"checkpoint-{state.best_global_step}"
        path = os.path.join(folder, name)  # noqa: PTH118 - to the letter what the trainer writes
        if state.best_global_step == state.global_step or Path(path).exists():
            state.best_model_checkpoint = path
    found: str | None = state.best_model_checkpoint
    return found


def note_callbacks(trainer: Any) -> None:
    """Note the callbacks' state in the trainer's."""
    noted = trainer.state.stateful_callbacks
    for callback in [*trainer.callback_handler.callbacks, trainer.control]:
        if isinstance(callback, ExportableState):
            name, state = type(callback).__name__, callback.state()
            if isinstance(noted[name], list):
                noted[name].append(state)
            else:
                noted[name] = state


def restore_callbacks(trainer: Any) -> None:
    """Have the callbacks that are here take the state that was saved of their like."""
    waiting = {
        name: deque(states if isinstance(states, list) else [states])
        for name, states in trainer.state.stateful_callbacks.items()
    }
    for callback in reversed(trainer.callback_handler.callbacks):
        # Each save adds to the states of several callbacks of one class: theirs are the last.
        if states := waiting.get(type(callback).__name__):
            vars(callback).update(states.pop().get("attributes", {}))


def step_of(path: Path, run: Path) -> int | None:
    """The step of a checkpoint of the run in the folder `run`; paths may be relative, or lead through links."""
    path = resolve(path)
    match = re.fullmatch(r"checkpoint-(\d{1,18})", path.name)
    return int(match[1]) if match and path.parent == run else None
