"""How one call of an attached trainer's `train()` comes to the checkpoint that it goes on from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from perdure.checkpoint.catalog import checkpoints, path_of
from perdure.checkpoint.checkpointer import Checkpointer
from perdure.checkpoint.fetch import fetch, is_on_hub
from perdure.checkpoint.reading import read_document
from perdure.checkpoint.records import RestoreRecord
from perdure.checkpoint.resume import Fallback, Unusable, damage_is_unusable
from perdure.checkpoint.snapshot import FOLDER
from perdure.distributed.group import Group
from perdure.errors import Corrupt, InvalidInput, StateMismatch
from perdure.folder.paths import resolve
from perdure.format.manifest import read_manifest
from perdure.integrations import attach_resume, attach_stock
from perdure.integrations.attach_epochs import Position
from perdure.integrations.attach_resume import Choice
from perdure.integrations.attach_trainer_state import step_of
from perdure.state.state import State

_log = logging.getLogger("perdure")
_SHOWN = 5
_PROGRESS = f"{FOLDER}/progress.json"
_ARGUMENTS = f"{FOLDER}/arguments.json"


class Resumption:
    """Trains from one checkpoint after the other until one proves to be good; every rank does the same.

    Attributes:
        choice: The checkpoint that training goes on from; None begins at zero.
    """

    def __init__(self, trainer: Any, ckpt: Checkpointer, *, strict: bool) -> None:
        self.choice: Choice | None = None
        self._trainer = trainer
        self._strict = strict
        self._ckpt = ckpt
        self._group = _group_of(ckpt, each_node=trainer.args.save_on_each_node)
        ckpt.take_over()  # which checkpoint a trainer goes on from, if any, its caller says
        self._fallback = Fallback(
            resolve(Path(trainer.args.output_dir)),
            self._group,
            distrust=ckpt.distrust,
            hint="To begin at zero: trainer.train(), of a trainer made anew",
        )

    def train(self, begin: Callable[[str | None], Any], asked: Any) -> Any:
        """What `begin` returns, given the checkpoint asked for, or the newest good one for True.

        One that proves to be damaged while it is read is passed over, and `begin` called again with the next older.
        """
        if asked is None or asked is False:
            self._tell_what_is_ahead(-1)
            return begin(None)
        if is_on_hub(asked):
            asked = path_of(self._ckpt.path, fetch(self._ckpt.path, asked, self._group))
        if asked is not True:
            return self._train_from_named(attach_resume.named(self._group, asked), begin)
        if not (found := self._fallback.candidates()):
            return begin(None)
        return self._fallback.first(
            found, lambda one: self._train_from(attach_resume.considered(self._group, one), begin)
        )

    def _tell_what_is_ahead(self, step: int) -> None:
        """Warn of checkpoints after `step`, since a later resume would go on from those, and not from this training."""
        run = self._ckpt.path
        if self._group.rank or not run.is_dir():
            return
        if not (ahead := [one for one in checkpoints(run) if one.state == "whole" and one.step > step]):
            return
        names = " ".join(one.path.name for one in ahead[:_SHOWN]) + (" …" if len(ahead) > _SHOWN else "")
        begins = "zero" if step < 0 else f"step {step}"
        _log.warning(
            "%s holds checkpoints of an earlier training, up to step %d. This one begins at %s; until it is past that, "
            "resume_from_checkpoint=True goes on from the earlier one. Delete its checkpoints (%s), or set another "
            "output_dir, or go on from them: trainer.train(resume_from_checkpoint=True)",
            run, ahead[-1].step, begins, names,
        )  # fmt: skip

    def _train_from_named(self, choice: Choice, begin: Callable[[str | None], Any]) -> Any:
        if (step := step_of(choice.path, self._ckpt.path)) is not None:
            self._tell_what_is_ahead(step)
        try:
            return self._train_from(choice, begin)
        except Unusable as damage:
            outcome = "The trainer's state is now partly its."
            raise attach_resume.unusable(choice.path, damage.reason, outcome) from damage

    def _train_from(self, choice: Choice, begin: Callable[[str | None], Any]) -> Any:
        self.choice = choice
        if not choice.is_ours:
            state = attach_resume.read_state(choice.path)
            attach_stock.check(self._trainer, choice.path, state, strict=self._strict)
        try:
            return begin(str(choice.path))
        except Unusable:
            if (handle := getattr(self._trainer, "neftune_hook_handle", None)) is not None:
                handle.remove()  # `begin` makes another, and noise would come twice
            raise

    def position(self, path: Path) -> Position | None:
        """What a checkpoint that perdure wrote says of the epoch under way; None of one that says nothing.

        Raises:
            Unusable: It is damaged.
        """

        def read() -> dict[str, Any] | None:
            manifest = read_manifest(path)
            if not {_PROGRESS, _ARGUMENTS} <= set(manifest.files):
                return None
            try:
                saved = dict(read_document(path, manifest, _PROGRESS)["state"])
                saved["arguments"] = read_document(path, manifest, _ARGUMENTS)["state"]
                return {field.name: saved[field.name] for field in fields(Position)}
            except (KeyError, TypeError) as error:
                raise Corrupt(f"{path / _PROGRESS} does not tell a position: {error!r}.", path=path) from error

        with damage_is_unusable():
            said = self._group.agree(read)[self._group.rank]
        return Position(**said) if said is not None else None

    def restore(self, choice: Choice, state: State) -> RestoreRecord:
        """Put the checkpoint into the trainer's parts.

        Raises:
            Unusable: It is damaged.
            StateMismatch: It is not of this run.
        """
        try:
            return self._fallback.restore(choice.path, state, strict=self._strict, nbytes=choice.nbytes)
        except StateMismatch as error:  # its own hint is for loops
            message, hint = error.message, attach_stock.STRICT_HINT
            if attach_resume.holds_only_model(choice.path):
                message = f"{message} It was saved with save_only_model, so no run can go on from it exactly."
                hint = "Take the model, and begin the rest anew, with: perdure.attach(trainer, strict=False)"
            raise StateMismatch(message, differences=error.differences, hint=hint) from None


def _group_of(ckpt: Checkpointer, *, each_node: bool) -> Group:
    """Who trains together; `each_node` is the trainer's `save_on_each_node`.

    Raises:
        InvalidInput: They have separate disks.
    """
    try:
        return ckpt.group
    except InvalidInput as error:
        if not each_node:
            raise
        raise InvalidInput(
            f"{error.message} `attach` keeps one copy of each checkpoint, not one on each machine as "
            "save_on_each_node does. Nothing was trained.",
            hint="Set output_dir to storage that all machines mount, or leave the checkpoints to the trainer itself.",
        ) from error
