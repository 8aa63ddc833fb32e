"""`finish`: everything between the last training step and a model that others can use, in one call."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.card.document import kept_by_hand, refresh
from perdure.card.render import render
from perdure.errors import InvalidInput
from perdure.folder import amend
from perdure.folder.paths import resolve
from perdure.format.hub_id import is_hub_id, looks_like_hub_id
from perdure.format.names import CARD
from perdure.integrations import gather
from perdure.integrations.metrics import as_json, numbers, parse_metrics, train_metrics
from perdure.integrations.push import Push, push
from perdure.integrations.ranks import on_main
from perdure.model.inference import align_special_tokens
from perdure.model.save import save_model
from perdure.model.saved import SavedModel
from perdure.model.weights import unwrap

if TYPE_CHECKING:
    from perdure.publishing.publish import Receipt

T = TypeVar("T")

_log = logging.getLogger("perdure")
_MAX_FILE = 4 * 2**20  # bytes of a card or a metrics file that is read back


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
        if self.problems:
            parts.append(f"problems: {len(self.problems)}")
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
       logged with the command that does it later, and the run ends well.

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

    Raises:
        InvalidInput: This is no trainer, or its model is sharded over processes or has no data. Nothing was written.
        SaveFailed: The disk refused. What was in the folder before is whole.

    ```python
    trainer.train()
    done = perdure.finish(trainer, dataset_name="openai/gsm8k", tags=["my-run"], repo="me/my-model")
    print(done.path, done.metrics, done.receipt)
    ```
    """
    _require_trainer(trainer)
    _refuse_sharded(trainer)
    repo = repo if repo is not None else getattr(vars(trainer).get("_perdure"), "push_to", None)
    folder = resolve(Path(output_dir if output_dir is not None else trainer.args.output_dir))
    pushing = Push.wanted(
        trainer, folder, want=push_to_hub, repo=repo, tag=tag, private=private, token=token, endpoint=endpoint
    )
    told = gather.Told(
        name=card_name(model_name, pushing.repo if pushing else None, folder),
        repo=pushing.address if pushing else None,
        base_model=base_model,
        datasets=as_names(dataset_name),
        tags=as_names(tags),
    )
    model = unwrap(trainer.accelerator.unwrap_model(trainer.model))
    run = _Run(trainer=trainer, model=model, folder=folder, told=told)
    run.check_told()
    run.attempt("EOS could not be aligned", lambda: align_special_tokens(model, trainer.processing_class))
    saved = on_main(trainer, lambda: run.save(max_shard_size))
    metrics = run.evaluate(evaluate)
    on_main(trainer, lambda: run.complete(metrics))
    receipt, push_error = None, None
    if pushing is not None and trainer.is_world_process_zero():
        receipt, push_error = push(pushing, folder, method=gather.method_name(trainer), steps=trainer.state.global_step)
    card = folder / CARD
    done = Finished(
        path=folder,
        saved=saved,
        card=card if saved is not None and CARD in run.written else None,
        metrics=metrics,
        receipt=receipt,
        push_error=push_error,
        problems=(*run.problems, *([push_error] if push_error else [])),
    )
    if saved is not None:
        _log.info("%s", done)
    return done


@dataclass(slots=True, kw_only=True)
class _Run:
    """One end of training: what is saved first must not be lost to anything that is done after it."""

    trainer: Any
    model: Any
    folder: Path
    told: gather.Told
    problems: list[str] = field(default_factory=list)
    written: set[str] = field(default_factory=set)

    def check_told(self) -> None:
        """Tell of names that the caller gave and the card cannot."""
        if self.told.base_model is not None and not is_hub_id(self.told.base_model):
            self.problem(f"base_model={self.told.base_model!r} is not a Hub id, so neither card nor adapter names it")
        for name in self.told.datasets:
            if not looks_like_hub_id(name):
                self.problem(f"dataset_name={name!r} is not a Hub id, so the card does not name it")

    def save(self, max_shard_size: int | str) -> SavedModel:
        base = self.attempt(
            "The base model could not be traced", lambda: gather.base_model(self.model, self.told.base_model)
        )
        if base is None and self.told.base_model is None and gather.has_base(self.model):
            self.problem("The base model was loaded from a folder, so the card does not name it: say base_model=...")
        files = self.documents({})
        saved = save_model(
            self.model,
            self.folder,
            tokenizer=self.trainer.processing_class,
            max_shard_size=max_shard_size,
            base_model=base.id if base else None,
            base_model_revision=base.revision if base else None,
            extra_files=files,
        )
        self.written.update(files)
        self.problems += saved.warnings
        return saved

    def evaluate(self, wanted: bool | None) -> dict[str, float]:
        if wanted is False or (wanted is None and self.trainer.eval_dataset is None):
            return {}
        return numbers(self.attempt("The evaluation failed", self.trainer.evaluate) or {})

    def complete(self, metrics: Mapping[str, float]) -> None:
        """Put card and metrics beside a model that is whole without them."""
        if not metrics:
            return
        files = self.documents(metrics)
        if self.attempt("The results could not be written beside the model", lambda: amend(self.folder, files)):
            self.written.update(files)

    def documents(self, metrics: Mapping[str, float]) -> dict[str, bytes]:
        """The card and the metrics files, as far as they can be made."""
        card = self.attempt("The model card could not be made", lambda: self._card(metrics))
        return {**(card or {}), **(self.attempt("Metrics could not be listed", lambda: self._metrics(metrics)) or {})}

    def attempt(self, otherwise: str, work: Callable[[], T]) -> T | None:
        """Do what must never cost the weights: an error becomes a problem to tell of, and the run goes on."""
        try:
            return work()
        except Exception as error:
            self.problem(f"{otherwise}: {_summary(error)}", error)
            return None

    def _card(self, metrics: Mapping[str, float]) -> dict[str, bytes]:
        existing = _read(self.folder / CARD)
        rendered = render(gather.gather(self.trainer, self.model, self.told, metrics))
        if existing and (kept := kept_by_hand(existing)):
            _log.info("%s: left as they were edited: %s", self.folder / CARD, ", ".join(kept))
        return {CARD: refresh(existing, rendered).encode(errors="surrogateescape")}

    def _metrics(self, metrics: Mapping[str, float]) -> dict[str, bytes]:
        trained = train_metrics(self.trainer)
        every = {**parse_metrics(_read(self.folder / "all_results.json")), **trained, **metrics}
        files = {"all_results.json": every, "train_results.json": trained, "eval_results.json": dict(metrics)}
        return {name: as_json(values) for name, values in files.items() if values}

    def problem(self, message: str, error: Exception | None = None) -> None:
        self.problems.append(message)
        if self.trainer.is_world_process_zero():  # once, not by every process
            _log.warning("%s", message, exc_info=error)


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
    plugin = getattr(getattr(trainer.accelerator, "state", None), "deepspeed_plugin", None)
    sharded = {
        "FSDP": getattr(trainer, "is_fsdp_enabled", False) or getattr(trainer, "is_fsdp_xla_enabled", False),
        "DeepSpeed ZeRO-3": getattr(trainer, "is_deepspeed_enabled", False) and getattr(plugin, "zero_stage", 3) == 3,
        "a distributed configuration": getattr(trainer, "is_distributed_loading_by_transformers", False),
    }
    for how, is_so in sharded.items():
        if is_so:
            raise InvalidInput(
                f"The model is sharded over processes by {how}, and `finish` saves models that each process holds "
                "whole. Nothing was written.",
                hint="Gather and save it with: trainer.save_model(trainer.args.output_dir)",
            )


def _read(path: Path) -> str | None:
    """A file that is there already; bytes that are no UTF-8 survive the way back."""
    try:
        if path.stat().st_size > _MAX_FILE:
            raise InvalidInput(f"{path} is too large to be read back; it stays as it is.")
        return path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return None


def _summary(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def as_names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several or none, as a tuple.

    >>> as_names("a"), as_names(["a", "b"]), as_names(None)
    (('a',), ('a', 'b'), ())
    """
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def card_name(told: str | None, repo: str | None, folder: Path) -> str:
    """A model's name: the one told, else its repository's, else its folder's; the last part of each."""
    for candidate in (told, repo):
        parts = (candidate or "").replace("\\", "/").strip("/ ").split("/")
        if parts[-1]:
            return parts[-1]
    return folder.name
