"""The methods in which an attached trainer differs from transformers' own. Each leads to `attach_run.Run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import Trainer

from perdure.integrations.attach_epochs import is_over
from perdure.integrations.attach_run import Run
from perdure.integrations.attach_trainer_state import restore_callbacks
from perdure.integrations.finish import finish

if TYPE_CHECKING:
    from perdure.integrations.attach import Attachment
    from perdure.publishing.receipt import Receipt


class AttachedTrainer(Trainer):  # type: ignore[misc]
    """Stands between transformers' `Trainer` and what inherits from it."""

    _perdure: Attachment
    control: Any

    @property
    def _run(self) -> Run:
        run = self._perdure.run
        assert run is not None, "only train() calls these"
        return run

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's own `train`, which may resume from a checkpoint of ours as well as from one of its own."""
        trial = args[0] if args else kwargs.get("trial")
        with Run(self._perdure, self._get_output_dir(trial)) as run:
            train = super().train
            return run.train(lambda path: train(path, *args, **kwargs), resume_from_checkpoint)

    def _init_training_state(self, max_steps: int, steps_in_epoch: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        epochs, batches = super()._init_training_state(max_steps, steps_in_epoch, *args, **kwargs)
        return self._run.position(epochs, batches, steps_in_epoch)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        model, loader = super()._prepare_for_training(*args, **kwargs)
        self._run.begin(loader)
        return model, loader

    def _run_epoch(self, **kwargs: Any) -> None:
        self._run.begin_epoch(kwargs["epoch"], kwargs["epochs_trained"], kwargs["steps_trained_in_current_epoch"])
        if self._run.owes_end:
            self._run.owes_end = False
            self._end_epoch(**kwargs)
        else:
            super()._run_epoch(**kwargs)

    def _end_epoch(self, **kwargs: Any) -> None:
        """What comes in `_run_epoch` after the last step."""
        self._run.take_up_generators()
        self.control.should_training_stop = is_over(self)
        self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
        names = ("model", "trial", "epoch", "ignore_keys_for_eval", "start_time")
        self._maybe_log_save_evaluate(self._tr_loss, None, *(kwargs[name] for name in names))

    def get_batch_samples(self, epoch_iterator: Any, *args: Any, **kwargs: Any) -> Any:
        found = super().get_batch_samples(self._run.source(epoch_iterator), *args, **kwargs)
        self._run.count(len(found[0]))
        return found

    def _maybe_log_save_evaluate(
        self, loss: Any, norm: Any, model: Any, trial: Any, *args: Any, learning_rate: float | None = None
    ) -> None:
        if (last := self._run.before_boundary(norm, learning_rate)) is not None:
            super()._maybe_log_save_evaluate(loss, last[0], model, trial, *args, learning_rate=last[1])
            self._run.after_boundary(model, trial)

    def _finalize_training(self, trial: Any, num_train_samples: Any, start_time: float) -> Any:
        self._run.finish()
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # nothing is left for it to delete
        try:
            return super()._finalize_training(trial, num_train_samples, start_time - self._run.seconds_before)
        finally:
            self.args.save_total_limit = limit

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.hp_search_backend is None and trial is None:
            self.store_flos()
        self._run.save()

    def push_to_hub(
        self,
        commit_message: str | None = None,
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **card: Any,
    ) -> Receipt | None:
        """As `finish` without an evaluation: the Trainer's own uploads the outbox, and a token among its arguments."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        told = {name: card[name] for name in ("dataset_name", "tags", "model_name") if card.get(name) is not None}
        return finish(
            self, push_to_hub=True, evaluate=False, token=token, revision=revision, private=private, **told
        ).receipt

    def _load_best_model(self) -> None:
        self._run.verify_best()
        super()._load_best_model()

    # Of a checkpoint of ours, `begin` restores all of these at once.

    def _load_from_checkpoint(self, resume_from_checkpoint: Any, model: Any = None) -> None:
        if not self._run.is_ours:
            load = super()._load_from_checkpoint
            self._run.refuse_what_fails("the model does", lambda: load(resume_from_checkpoint, model))

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        if not self._run.is_ours:
            load = super()._load_optimizer_and_scheduler
            self._run.refuse_what_fails("optimizer or scheduler do", lambda: load(checkpoint))

    def _load_scaler(self, checkpoint: Any) -> None:
        if not self._run.is_ours:
            load = super()._load_scaler
            self._run.refuse_what_fails("the scaler does", lambda: load(checkpoint))

    def _load_rng_state(self, checkpoint: Any) -> None:
        if self._run.is_ours:
            self._run.take_up_generators()
        else:
            load = super()._load_rng_state
            self._run.refuse_what_fails("the generators do", lambda: load(checkpoint))

    def _load_callback_state(self) -> None:
        if self.args.restore_callback_states_from_checkpoint:
            super()._load_callback_state()
        else:
            restore_callbacks(self)
