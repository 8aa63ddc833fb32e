"""`attach`: the checkpoints of a transformers Trainer, or of one of TRL's, become perdure's.

The trainer's class is exchanged for one that differs in nothing but the methods of `perdure.integrations.attached`,
which stand right above transformers' own. So what a trainer of TRL adds to them still happens around them, and other
trainers of the same class know nothing of it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from perdure.checkpoint.policy import Every, Keep, check_policies
from perdure.checkpoint.records import RestoreRecord, SaveRecord
from perdure.errors import InvalidInput, MissingDependency
from perdure.integrations import git
from perdure.integrations.overrides import SAVE_MODEL, SAVE_STATE, overrides, saves_its_own_way
from perdure.integrations.ranks import state_spread_by

if TYPE_CHECKING:
    from perdure.integrations.attach_push import After, CheckpointPushes
    from perdure.integrations.attach_run import Run
    from perdure.publishing.outbox import Outbox

_log = logging.getLogger("perdure")
_OLDEST = "5.3"  # transformers: the training loop in parts
_NEEDED = ("_prepare_for_training", "_run_epoch", "_finalize_training", "_init_training_state", "get_batch_samples")


class Attachment:
    """What `attach` returns: what became of the trainer's checkpoints, and the way back. Also a context manager.

    Attributes:
        trainer: The trainer.
        stop_requested: The last `train()` was ended by SIGTERM or SIGUSR1, and its checkpoint is durable.
        restored: Where the last `train()` went on from; None where it began at zero.
        saves: A record of each checkpoint that the last `train()` committed.
        outbox: What is pushed while the trainer trains; None where nothing is, and on all processes but the main one.
    """

    def __init__(
        self,
        trainer: Any,
        *,
        save: Every | None,
        keep: Keep | None,
        push_to: str | None,
        strict: bool,
        pushes: CheckpointPushes | None = None,
        card_template: Path | None = None,
    ) -> None:
        self.trainer = trainer
        self.save = save
        self.keep = keep
        self.push_to = push_to
        self.strict = strict
        self.card_template = card_template
        self.stop_requested = False
        self.restored: RestoreRecord | None = None
        self.saves: list[SaveRecord] = []
        self.run: Run | None = None
        self.pushes = pushes
        self.outbox: Outbox | None = pushes.outbox if pushes is not None else None
        self._class = type(trainer)

    def detach(self) -> None:
        """Leave the trainer as it was. Checkpoints stay; doing so twice changes nothing more.

        Raises:
            InvalidInput: The trainer is training.
        """
        if self.run is not None:
            raise InvalidInput("The trainer is training.", hint="Detach it when train() has returned.")
        if vars(self.trainer).pop("_perdure", None) is not None:
            self.trainer.__class__ = self._class

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def attach(
    trainer: Any,
    *,
    save: Every | None = None,
    keep: Keep | None = None,
    push_to: str | None = None,
    revisions: bool = True,
    training_state: bool = False,
    after_push: After | None = None,
    card_template: str | os.PathLike[str] | None = None,
    strict: bool = True,
) -> Attachment:
    """Make a trainer's checkpoints atomic, verified, asynchronous and free of pickle, in `output_dir/checkpoint-STEP`.

    For transformers' `Trainer` and every trainer of TRL that is one (SFT, DPO, GRPO, Reward, KTO, RLOO). The trainer's
    arguments mean what they meant: `save_strategy`, `save_steps`, `save_total_limit`, `load_best_model_at_end`,
    `metric_for_best_model`, `greater_is_better`, `save_only_model`. Each checkpoint is a model folder that
    `from_pretrained` reads, with `trainer_state.json` and a `training_state/` beside.

    A checkpoint is written while training goes on. `on_save` of callbacks is called when it is durable: at the end of
    the first step that finds it so, or of training, with the `state` of the moment that was saved.

    `train(resume_from_checkpoint=True)` goes on from the newest whole checkpoint and says which it had to pass over;
    where there is none, it begins at zero. With "hf://me/model@revision" it goes on from a checkpoint that was pushed
    with its training state. The resumed run is, bit for bit, the one that was interrupted. A checkpoint
    that the Trainer wrote itself is still read, with a warning, since it holds pickles.

    With `push_to`, or `push_to_hub` in the trainer's arguments, every checkpoint is pushed while training goes on: it
    is written down in the outbox of `output_dir` by the thread that saved it, and pushed by a process of its own. A
    Hub that is away, slow, or refuses, costs the training nothing.

    SIGTERM and SIGUSR1 during `train()` let the step end, write a checkpoint, wait for it, and end the training; then
    `stop_requested` is true.

    Args:
        trainer: The trainer, before `train()`.
        save: When to save, instead of `save_strategy`; the last step is always saved.
        keep: What to keep, instead of `save_total_limit`. The best checkpoint by the trainer's own measure stays, too.
        push_to: The repository that checkpoints are pushed to, and at the end the model, by `finish`; in place of
            `hub_model_id` and `hub_strategy`. `hub_revision`, `hub_private_repo` and `hub_token` count as ever.
        revisions: Every checkpoint is a branch `{revision}-step-{step:09d}` that begins at the repository's first
            commit; `{revision}` is `hub_revision`, or main. False pushes one after the other to that branch itself.
        training_state: Push also what another machine needs to go on from a checkpoint: optimizer, place in the data.
        after_push: What follows each push of a checkpoint, as in `Outbox.add`: a command line, or a callable.
        card_template: A Jinja file that extends `card.md.jinja`, for the cards of checkpoints and of `finish`.
        strict: Refuse to resume where something is missing or differs; otherwise say what, and take what fits.

    Raises:
        InvalidInput: This is no trainer, it is attached already, its model is spread over processes, or it saves in its
            own way; or a repository's or branch's name is none, or the template is broken.
        NotFound: There is no such template.
        CheckFailed: The model's configuration holds what must not leave the machine, so no checkpoint could be pushed.
        MissingDependency: transformers is too old for it.

    ```python
    run = perdure.attach(trainer, keep=perdure.Keep(last=3, best="eval_loss"), push_to="me/my-model")
    trainer.train(resume_from_checkpoint=True)
    if not run.stop_requested:
        perdure.finish(trainer, wait=600)
    ```
    """
    check_policies(save, keep)
    _check(trainer, save)
    from perdure.integrations.attach_push import CheckpointPushes
    from perdure.integrations.attached import AttachedTrainer
    from perdure.integrations.documents import checked, create_model_card

    template = checked(card_template)
    git.source()  # the code as it is now, which is what runs
    pushes = CheckpointPushes.wanted(
        trainer, push_to=push_to, revisions=revisions, training_state=training_state, after=after_push
    )
    attachment = Attachment(
        trainer, save=save, keep=keep, push_to=push_to, strict=strict, pushes=pushes, card_template=template
    )
    cls = type(trainer)
    is_plain = cls in AttachedTrainer.__mro__
    bases: tuple[type, ...] = (AttachedTrainer,) if is_plain else (cls, AttachedTrainer)
    names = {
        "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__,
        "create_model_card": create_model_card,
    }  # fmt: skip
    trainer.__class__ = type(cls.__name__, bases, names)
    trainer._perdure = attachment
    if passed_over := overrides(trainer, *SAVE_MODEL, *SAVE_STATE):
        _log.warning(
            "Checkpoints are written without calling %s: what that adds to them, or changes, is not in them. To add "
            "files, override _save_checkpoint, and write them into the checkpoint's folder when super()'s is done.",
            ", ".join(passed_over),
        )
    return attachment


def _check(trainer: Any, save: Every | None) -> None:
    if not all(hasattr(trainer, name) for name in ("args", "accelerator", "callback_handler", "_save_checkpoint")):
        raise InvalidInput(
            f"`attach` takes a transformers Trainer or one of TRL's, and this is a {type(trainer).__name__}.",
            hint="For a loop of your own: perdure.Checkpointer(folder)",
        )
    if not all(hasattr(trainer, name) for name in _NEEDED):
        raise MissingDependency(
            f"`attach` needs transformers {_OLDEST} or newer.", hint=f"pip install 'transformers>={_OLDEST}'"
        )
    if "_perdure" in vars(trainer):
        raise InvalidInput("This trainer is attached already.", hint="Call detach() on what `attach` returned first.")
    if save is not None and trainer.args.save_strategy == "best":
        raise InvalidInput(
            'save= and save_strategy="best" cannot both say when to save.', hint="Leave one of them out."
        )
    if own := saves_its_own_way(trainer):
        raise InvalidInput(
            f"{own[0]} logs and saves in a method of its own, which `attach` has no part in.",
            hint="Leave this trainer's checkpoints to the trainer itself.",
        )
    if how := state_spread_by(trainer):
        raise InvalidInput(
            f"Model or optimizer are spread over processes by {how}; `attach` saves what each process holds whole.",
            hint="Leave this trainer's checkpoints to the trainer itself.",
        )
