"""`finish`: everything between the last training step and a model that others can use, in one call."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.distributed import group as groups
from perdure.errors import InvalidInput
from perdure.folder.paths import resolve
from perdure.format.names import CARD
from perdure.integrations import gather, ranks
from perdure.integrations.documents import checked, template_of
from perdure.integrations.ending import Ending
from perdure.integrations.push import Push, Pushed, push, settle
from perdure.model.inference import align_special_tokens
from perdure.model.saved import SavedModel
from perdure.model.weights import unwrap

if TYPE_CHECKING:
    from perdure.integrations.attach import Attachment
    from perdure.publishing.receipt import Receipt

_log = logging.getLogger("perdure")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Finished:
    """What `finish` did. In a distributed run, `saved`, `card` and `receipt` are None on all but the main process.

    Args:
        path: The folder, absolute.
        saved: What was written, with digests.
        card: The model card.
        metrics: The final evaluation's metrics; empty without one.
        receipt: What was published; None if nothing was.
        push_error: Why publishing failed and how to do it later; None if it did not.
        problems: All that went wrong without costing the model, `push_error` included.
    """

    path: Path
    saved: SavedModel | None
    card: Path | None
    metrics: Mapping[str, float]
    receipt: Receipt | None
    push_error: str | None
    problems: tuple[str, ...]

    def __str__(self) -> str:
        """One line that says what lies where."""
        parts = [f"saved {self.path}"] if self.saved is not None else []
        if self.receipt is not None:
            tagged = f" (tag {self.receipt.tag})" if self.receipt.tag else ""
            parts.append(f"published {self.receipt.commit_url}{tagged}")
        if self.push_error is not None:
            parts.append("not published (push_error says how to do it later)")
        if notes := len(self.problems) - (self.push_error is not None):
            parts.append(f"{notes} {'note' if notes == 1 else 'notes'} (in problems)")
        return " · ".join(parts)

    def __repr__(self) -> str:
        return f"<Finished: {self}>"


def finish(
    trainer: Any,
    *,
    output_dir: str | os.PathLike[str] | None = None,
    dataset_name: str | Sequence[str] | None = None,
    tags: str | Sequence[str] = (),
    model_name: str | None = None,
    base_model: str | None = None,
    evaluate: bool | None = None,
    push_to_hub: bool | None = None,
    repo: str | None = None,
    tag: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    max_shard_size: int | str = "5GB",
    revision: str | None = None,
    wait: float | None = None,
    card_template: str | os.PathLike[str] | None = None,
) -> Finished:
    """Finish a training run: align EOS, save, describe, evaluate, publish.

    For a transformers `Trainer` and every trainer of TRL that is one (SFT, DPO, GRPO …). In this order:

    1. The live model's EOS and padding are aligned with the tokenizer's, which only ever adds an EOS. Its KV cache
       stays as training set it; in what is saved it is on.
    2. The model, or the adapter that was trained, is saved with its tokenizer or processor and a first model card,
       all at once. Checkpoints, logs and notes in the folder stay.
    3. The model is evaluated, if there is an evaluation set. An evaluation that fails, or is interrupted, costs
       nothing of what was saved.
    4. Metrics (`all_results.json`, `train_results.json`, `eval_results.json`) and the card with its results are put
       on disk.
    5. The folder is published once, if wanted. A Hub that is away or refuses costs nothing but the push: that is
       logged with the command that does it later, and the run ends well. Where it is away, the push stays in the
       folder's outbox.

    In a distributed run every process must call it. The main process writes, the others wait and fail if it fails;
    they do not wait for the push. Calling it twice leaves what one call leaves.

    Args:
        trainer: The trainer, after `train()`.
        output_dir: The folder; by default `trainer.args.output_dir`.
        dataset_name: The training data's Hub id, or several. What is no Hub id is left out of the card.
        tags: More tags for the card.
        model_name: The name on the card; by default the repository's, or the folder's.
        base_model: The base model's Hub id, where it was loaded from a folder.
        evaluate: By default, evaluate if the trainer has an evaluation set.
        push_to_hub: By default what `repo` or the trainer's arguments say.
        repo: `NAMESPACE/NAME`, or `NAME`; by default what `attach` was told, `hub_model_id`, or the folder's name.
            Naming one publishes.
        tag: A tag for the published commit.
        private: Whether a new repository is private; by default `hub_private_repo`, or yes.
        token: By default `hub_token`, or what the environment has.
        endpoint: The Hub's address; by default `HF_ENDPOINT`, or huggingface.co.
        max_shard_size: The largest weights file.
        revision: The branch to publish to; by default `hub_revision`, or main.
        wait: Seconds after which this push, and those that still wait in the outbox, of checkpoints for example, are
            left to `perdure outbox drain`. By default each is tried once, for as long as that takes.
        card_template: A Jinja file that extends `card.md.jinja`; by default the one that `attach` was told.

    Raises:
        NotFound: There is no such template. Nothing was written.
        InvalidInput: This is no trainer, or its model is sharded over processes or has no data, or the template is
            broken. Nothing was written.
        SaveFailed: The disk refused. What was in the folder before is whole.

    ```python
    trainer.train()
    done = perdure.finish(trainer, dataset_name="openai/gsm8k", tags=["my-run"], repo="me/my-model")
    print(done.path, done.metrics, done.receipt)
    ```
    """
    _require_trainer(trainer)
    _refuse_sharded(trainer)
    attachment: Attachment | None = vars(trainer).get("_perdure")
    template = checked(card_template) or template_of(trainer)
    repo = repo if repo is not None else getattr(attachment, "push_to", None)
    folder = resolve(Path(output_dir if output_dir is not None else trainer.args.output_dir))
    pushing = Push.wanted(
        trainer, folder, want=push_to_hub, repo=repo, revision=revision, tag=tag, private=private, token=token,
        endpoint=endpoint,
    )  # fmt: skip
    told = gather.Told(
        name=gather.card_name(model_name, pushing.repo if pushing else None, folder),
        repo=pushing.address if pushing else None,
        base_model=base_model,
        datasets=gather.as_names(dataset_name),
        tags=gather.as_names(tags),
    )
    model = unwrap(trainer.accelerator.unwrap_model(trainer.model))
    ending = Ending(trainer=trainer, model=model, folder=folder, told=told, template=template)
    ending.check_told()
    ending.attempt("EOS could not be aligned", lambda: align_special_tokens(model, trainer.processing_class))
    with closing(groups.current()) as group:
        saved = ranks.on_main(group, lambda: ending.save(max_shard_size))
        metrics = ending.evaluate(evaluate)
        ranks.on_main(group, lambda: ending.complete(metrics))
    pushed, left = Pushed(), None
    outbox = attachment.outbox if attachment is not None else None
    if pushing is not None and trainer.is_world_process_zero():
        method, steps = gather.method_name(trainer), trainer.state.global_step
        box = outbox if outbox is not None and outbox.run == folder and token is None else None
        pushed = push(pushing, folder, box=box, method=method, steps=steps, wait=wait)
    if outbox is not None or (pushing is not None and trainer.is_world_process_zero()):
        is_drained = pushing is not None and (outbox is None or outbox.run == folder)
        left = settle(outbox, folder, wait=wait, is_drained=is_drained, pushed=pushed)
        if left:
            _log.warning("%s", left)
    if attachment is not None and attachment.pushes is not None:
        attachment.pushes.settled()
    card = folder / CARD
    done = Finished(
        path=folder,
        saved=saved,
        card=card if saved is not None and CARD in ending.written else None,
        metrics=metrics,
        receipt=pushed.receipt,
        push_error=pushed.error,
        problems=(*ending.problems, *filter(None, [pushed.error, left])),
    )
    if saved is not None:
        _log.info("%s", done)
    return done


def _require_trainer(trainer: Any) -> None:
    missing = [name for name in ("args", "model", "accelerator", "state", "evaluate") if not hasattr(trainer, name)]
    if missing:
        raise InvalidInput(
            f"`finish` takes a transformers Trainer or one of TRL's, and this is a {type(trainer).__name__}. "
            "Nothing was written.",
            hint="For a model without a trainer: perdure.save_model(model, folder, tokenizer=tokenizer)",
        )


def _refuse_sharded(trainer: Any) -> None:
    """Written from one process, a model that is spread over several would be wrong; its own saver gathers it."""
    if how := ranks.model_spread_by(trainer):
        raise InvalidInput(
            f"The model is sharded over processes by {how}, and `finish` saves models that each process holds "
            "whole. Nothing was written.",
            hint="Gather and save it with: trainer.save_model(trainer.args.output_dir)",
        )
