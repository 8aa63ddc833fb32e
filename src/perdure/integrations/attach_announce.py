"""When callbacks hear of a checkpoint: `on_save` comes when it is durable, and not when its save began."""

from __future__ import annotations

import copy
import logging
from collections import deque
from typing import Any

from perdure.checkpoint.checkpointer import Checkpointer
from perdure.integrations.overrides import overrides

_log = logging.getLogger("perdure")


class Announcements:
    """Stands in place of the callback handler's `on_save`, and calls that when its time has come."""

    def __init__(self, trainer: Any, ckpt: Checkpointer) -> None:
        self._trainer = trainer
        self._ckpt = ckpt
        self._is_begun = self._warned = False
        self._owed: deque[Any] = deque()  # states at saves that are still to be told of

    def begun(self) -> None:
        """A save of ours has begun; the trainer's call of `on_save` is for it."""
        self._is_begun = True

    def on_save(self, args: Any, state: Any, control: Any) -> Any:
        """The trainer says that it saved."""
        if not self._is_begun:
            return self._of_foreign(args, state, control)
        self._is_begun = control.should_save = False
        seen = copy.copy(state)
        seen.log_history = list(state.log_history)
        self._owed.append(seen)
        return control

    def _of_foreign(self, args: Any, state: Any, control: Any) -> Any:
        """A `_save_checkpoint` of the trainer's own wrote what it will: there is no commit to wait for."""
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s writes checkpoints without calling super()'s, so they are not perdure's: they are neither verified "
                "nor rotated, and resume_from_checkpoint=True takes them only if they are as the Trainer writes them.",
                " and ".join(overrides(self._trainer, "_save_checkpoint")) or "_save_checkpoint",
            )
        handler = self._trainer.callback_handler
        return type(handler).on_save(handler, args, state, control)

    def deliver(self) -> None:
        """Tell of what is durable by now."""
        if not self._owed:
            return
        awaited = {state.global_step for state in self._owed}
        durable = self._ckpt.group.agree(lambda: [one.step for one in self._ckpt.saves if one.step in awaited])[0]
        while self._owed and self._owed[0].global_step in durable:
            trainer, state = self._trainer, self._owed.popleft()
            handler = trainer.callback_handler
            if trainer._perdure.outbox is not None:
                trainer.control = handler.on_push_begin(trainer.args, state, trainer.control)
            trainer.control = type(handler).on_save(handler, trainer.args, state, trainer.control)
