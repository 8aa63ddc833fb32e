"""One call of an attached trainer's `train()`: what is saved when, and how it is taken up again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parallel import DistributedDataParallel

from perdure.checkpoint.checkpointer import Checkpointer
from perdure.checkpoint.model import note_base
from perdure.checkpoint.policy import Schedule
from perdure.checkpoint.restore import tell_passed_over
from perdure.checks.verify import verify
from perdure.format.names import MANIFEST
from perdure.integrations import attach_resume, attach_stock
from perdure.integrations import attach_trainer_state as trainer_state
from perdure.integrations.attach_announce import Announcements
from perdure.integrations.attach_epochs import Going, going_on
from perdure.integrations.attach_fallback import Resumption
from perdure.integrations.attach_rotation import Rotation
from perdure.integrations.attach_state import Arguments, Progress, synced_reference
from perdure.integrations.documents import of_checkpoint
from perdure.integrations.overrides import overrides
from perdure.state import rng
from perdure.state.loader import is_ordinary, track
from perdure.state.state import State

if TYPE_CHECKING:
    from perdure.integrations.attach import Attachment

_log = logging.getLogger("perdure")


class Run:
    """Saves and resumes for one call of `train()`; a context manager for its length.

    Args:
        folder: Where the trainer puts its checkpoints.

    Attributes:
        owes_end: The epoch that comes has no step left, and its end is still to come.
    """

    def __init__(self, attachment: Attachment, folder: str) -> None:
        self._attachment = attachment
        self._trainer: Any = attachment.trainer
        self._folder = folder
        self._schedule = Schedule(attachment.save) if attachment.save else None
        self._progress = Progress(self._trainer)
        self._generators: dict[str, Any] | None = None
        self.owes_end = self._takes_up = False
        self._iterator: Iterator[Any] | None = None
        self._latest: int | None = None

    def __enter__(self) -> Run:
        trainer, attachment = self._trainer, self._attachment
        self._rotation = Rotation(keep=attachment.keep, total=trainer.args.save_total_limit)
        collator = getattr(trainer.data_collator, "tokenizer", None)
        self._pushes = attachment.pushes
        self._ckpt = Checkpointer(
            self._folder, keep=self._rotation, tokenizer=trainer.processing_class or collator,
            on_commit=self._pushes.committed if self._pushes is not None else None,
        )  # fmt: skip
        attachment.run, attachment.saves = self, self._ckpt.saves
        attachment.restored, attachment.stop_requested = None, False
        self._announcements = Announcements(trainer, self._ckpt)
        trainer.callback_handler.on_save = self._on_save
        self._silenced = [one for one in enumerate(trainer.callback_handler.callbacks) if _saves_on_signals(one[1])]
        for _, callback in self._silenced:
            trainer.callback_handler.callbacks.remove(callback)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._attachment.run = None
        del self._trainer.callback_handler.on_save
        for number, callback in self._silenced:
            self._trainer.callback_handler.callbacks.insert(number, callback)
        self._ckpt.__exit__(kind, error, trace)
        if self._pushes is not None:
            self._pushes.tell_what_is_left()

    # Resuming.

    @property
    def is_ours(self) -> bool:
        """Whether the run goes on from a checkpoint that perdure wrote."""
        return self._choice is not None and self._choice.is_ours

    @property
    def seconds_before(self) -> float:
        """How long the run has trained before this call."""
        return self._progress.seconds_before

    def train(self, begin: Callable[[str | None], Any], asked: Any) -> Any:
        """Train from what was asked for: `begin`, given the checkpoint to go on from."""
        self._resumption = Resumption(self._trainer, self._ckpt, strict=self._attachment.strict)
        return self._resumption.train(begin, asked)

    @property
    def _choice(self) -> attach_resume.Choice | None:
        return self._resumption.choice

    def position(self, epochs: int, batches: int, steps_in_epoch: int) -> tuple[int, int]:
        """Epochs done and batches taken of the next, given the trainer's own count, and the steps of an epoch."""
        choice, self._going = self._choice, Going(epochs=epochs, batches=batches)
        self._progress.steps_in_epoch = steps_in_epoch
        saved = self._resumption.position(choice.path) if choice is not None and choice.is_ours else None
        if saved is not None:
            self._going = going_on(self._trainer, saved, self._going, steps_in_epoch)
        self.owes_end = self._going.owes_end
        return self._going.epochs, self._going.batches

    def begin(self, loader: Any) -> None:
        """All parts of the run are made: gather them, and restore them from the chosen checkpoint."""
        trainer = self._trainer
        self._loader = loader
        self._state = State(
            model=_with_ddp(trainer), optimizer=trainer.optimizer, scheduler=trainer.lr_scheduler,
            scaler=getattr(trainer.accelerator, "scaler", None), loader=loader,
            arguments=Arguments(trainer), progress=self._progress, ref_model=synced_reference(trainer),
        )  # fmt: skip
        note_base(trainer.model)
        self._saved = State(model=trainer.model) if trainer.args.save_only_model else self._state
        if self._choice is not None and self._choice.is_ours:
            self._attachment.restored = self._resumption.restore(self._choice, self._state)
            self._latest = trainer.state.global_step
            self._generators = rng.state()  # the trainer draws before it comes to where the run was interrupted
        if self._schedule is not None:
            self._schedule.saved(trainer.state.global_step, trainer.state.epoch)
        if self._pushes is not None:
            restored = self._attachment.restored
            self._pushes.begin(restored.path if restored is not None else None)

    def begin_epoch(self, epoch: int, first: int, batches: int) -> None:
        """An epoch begins, after so many of its batches where it is the `first` of a resumed run."""
        self._progress.take_up_loop()
        self._progress.epoch, self._progress.batches = epoch, batches if epoch == first else 0
        self._iterator, self._takes_up = None, False
        if epoch == first and self._going.told:
            _log.warning("%s", self._going.told)
        if self.is_ours and epoch == first and is_ordinary(self._loader):
            place = track(self._loader)
            place.runs_on = False  # the trainer begins epochs
            # Not between two epochs, nor where the trainer comes to another count since its arguments were changed.
            is_here = self._progress.restored_at == (epoch, batches) and not self.owes_end
            self._takes_up = is_here and place.pending is not None
            if not self._takes_up:
                place.forgo()

    def source(self, epoch_iterator: Iterator[Any]) -> Iterator[Any]:
        """Where batches come from: the trainer's own iterator, or in a resumed epoch the restored place.

        The trainer's own would load again what was loaded before, with other random numbers.
        """
        if not self._takes_up:
            return epoch_iterator
        if self._iterator is None:
            rng.set_state(self._generators_saved())
            self._iterator = iter(self._loader)
        return self._iterator

    def count(self, batches: int) -> None:
        """So many batches more were taken."""
        self._progress.batches += batches

    def take_up_generators(self) -> None:
        """The trainer wants the generators as they were; where the place was restored, they are so already."""
        if not self._takes_up:
            rng.set_state(self._generators_saved())

    def _generators_saved(self) -> dict[str, Any]:
        assert self._generators is not None, "restored from ours"
        return self._generators

    def refuse_what_fails(self, what: str, load: Callable[[], object]) -> None:
        """Load from a checkpoint that the Trainer wrote; what does not fit the trainer is told in words.

        Args:
            what: What is loaded, and a verb: "model does".

        Raises:
            StateMismatch: It does not fit, and may not be passed over.
        """
        try:
            load()
        except torch.OutOfMemoryError:
            raise
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            assert self._choice is not None
            found = f"{what} not take the saved state: {error}"
            if self._attachment.strict:
                outcome = "The trainer's state is now partly its."
                raise attach_stock.mismatch(self._choice.path, [found], outcome) from error
            tell_passed_over(self._choice.path, [found])

    # Saving.

    def before_boundary(self, norm: Any, learning_rate: float | None) -> tuple[Any, float | None] | None:
        """A step, or an epoch, is done; with what the trainer is to log, save and evaluate, or None if it is not to.

        Args:
            norm: Of the last step's gradient; with a learning rate of None, no step was done by this process.
        """
        state, control = self._trainer.state, self._trainer.control
        if self._attachment.stop_requested:
            return None
        self._progress.boundary(norm, learning_rate)
        if self._schedule is not None:
            is_last = state.global_step >= state.max_steps
            due = self._any_rank(is_last or self._schedule.due(state.global_step, state.epoch))
            control.should_save = due and state.global_step != self._latest
        return self._progress.last

    def after_boundary(self, model: Any, trial: Any) -> None:
        """The trainer has logged, saved and evaluated: tell of what is durable by now, and stop if a signal says so."""
        trainer = self._trainer
        if self._any_rank(self._ckpt.stop_signal is not None):
            if self._latest != trainer.state.global_step:
                trainer._save_checkpoint(model, trial)
                trainer.control = trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
            self._ckpt.wait()
            self._attachment.stop_requested = trainer.control.should_training_stop = True
        self._announcements.deliver()

    def _any_rank(self, says: bool) -> bool:
        return any(self._ckpt.group.agree(lambda: says))

    def save(self) -> None:
        """Begin to save; what the trainer's own method does to `state` is done, too."""
        trainer = self._trainer
        state = trainer.state
        self._ckpt.wait()
        best = trainer_state.note_best(trainer, self._folder)
        self._rotation.best = trainer_state.step_of(Path(best), self._ckpt.path) if best else None
        trainer_state.note_callbacks(trainer)
        metrics = trainer_state.metrics(state)
        card = of_checkpoint(trainer, self._ckpt.path, self._attachment.push_to, metrics)
        self._ckpt.save(
            state.global_step, self._saved, metrics=metrics, epoch=state.epoch, force=True,
            files={attach_resume.TRAINER_STATE: trainer_state.encode(state), **card},
        )  # fmt: skip
        self._announcements.begun()
        if self._must_be_there():
            self._ckpt.wait()

    def _must_be_there(self) -> bool:
        """Whether the trainer adds files of its own to the checkpoint, and so has to find it."""
        trainer = self._trainer
        return bool(overrides(trainer, "_save_checkpoint")) or getattr(trainer, "use_adaptive_entropy", False)

    def _on_save(self, args: Any, state: Any, control: Any) -> Any:
        """In place of the callback handler's own."""
        self._latest = state.global_step
        if self._schedule is not None:
            self._schedule.saved(state.global_step, state.epoch)
        return self._announcements.on_save(args, state, control)

    def finish(self) -> None:
        """Training is over: wait for the last save, and tell of it."""
        self._progress.take_up_loop()
        self._ckpt.wait()
        self._announcements.deliver()

    def verify_best(self) -> None:
        """Refuse to load a best model that is damaged."""
        path = Path(self._trainer.state.best_model_checkpoint)
        if (path / MANIFEST).exists():
            verify(path).raise_for_problems(outcome="The best model was not loaded; the model is the last step's.")


def _with_ddp(trainer: Any) -> Any:
    wrapped = trainer.model_wrapped
    return wrapped if isinstance(wrapped, DistributedDataParallel) else trainer.model


def _saves_on_signals(callback: object) -> bool:
    """Whether it is the callback of `enable_jit_checkpoint`, which saves in the middle of a step."""
    return type(callback).__name__ == "JITCheckpointCallback"
