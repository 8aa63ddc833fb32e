"""What `finish` does on disk: the model first, and then all that may fail without costing it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from perdure.card.card import Card
from perdure.folder import amend
from perdure.format.hub_id import is_hub_id, looks_like_hub_id
from perdure.format.names import CARD
from perdure.integrations import gather, lineage
from perdure.integrations.documents import read
from perdure.integrations.metrics import as_json, evaluated, parse_metrics, train_metrics
from perdure.integrations.overrides import SAVE_MODEL, overrides
from perdure.model.save import save_model
from perdure.model.saved import SavedModel

T = TypeVar("T")

_log = logging.getLogger("perdure")


@dataclass(slots=True, kw_only=True)
class Ending:
    """One end of training: what is saved first must not be lost to anything that is done after it."""

    trainer: Any
    model: Any
    folder: Path
    told: gather.Told
    template: Path | None = None
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
        """Save the model, with the card as far as it is known before an evaluation; this alone may raise."""
        base = self.attempt(
            "The base model could not be traced", lambda: lineage.base_model(self.model, self.told.base_model)
        )
        if base is None and self.told.base_model is None and lineage.has_base(self.model):
            self.problem("The base model was loaded from a folder, so the card does not name it: say base_model=...")
        if passed_over := overrides(self.trainer, *SAVE_MODEL):
            self.problem(
                f"The model is saved without calling {', '.join(passed_over)}: what that adds is not in the folder, "
                "nor published. To add files: perdure.save_model(model, folder, extra_files=...), perdure.publish"
            )
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
        """The metrics of an evaluation, which None asks for where the trainer has a dataset; empty where it fails."""
        if wanted is False or (wanted is None and self.trainer.eval_dataset is None):
            return {}
        return self.attempt("The evaluation failed", lambda: evaluated(self.trainer)) or {}

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
        facts = gather.gather(self.trainer, self.model, self.told, metrics)
        card = Card.from_facts(facts, existing=read(self.folder / CARD), template=self.template)
        if card.conflicts:
            parts = " ".join(f"--renew {conflict.part}" for conflict in card.conflicts)
            self.problem(
                "The card says otherwise now in what was edited by hand, which stays as it is; for what would be "
                f"written: {shlex.join(['perdure', 'card', str(self.folder)])} {parts}"
            )
        return card.files()

    def _metrics(self, metrics: Mapping[str, float]) -> dict[str, bytes]:
        trained = train_metrics(self.trainer)
        every = {**parse_metrics(read(self.folder / "all_results.json")), **trained, **metrics}
        files = {"all_results.json": every, "train_results.json": trained, "eval_results.json": dict(metrics)}
        return {name: as_json(values) for name, values in files.items() if values}

    def problem(self, message: str, error: Exception | None = None) -> None:
        """Keep a problem for the caller of `finish`, and log it."""
        if message in self.problems:
            return
        self.problems.append(message)
        if self.trainer.is_world_process_zero():  # once, not by every process
            _log.warning("%s", message, exc_info=error)


def _summary(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
