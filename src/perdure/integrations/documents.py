"""The card of a run, and the facts that it was made of, as files to put beside the model."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from perdure.card.card import Card
from perdure.card.template import Template
from perdure.errors import InvalidInput
from perdure.format.names import CARD
from perdure.integrations.gather import Told, as_names, card_name, gather
from perdure.model.weights import unwrap

_log = logging.getLogger("perdure")
_MAX_FILE = 4 * 2**20  # bytes of a card or a metrics file that is read back


def create_model_card(
    trainer: Any, model_name: str | None = None, dataset_name: Any = None, tags: Any = None, **_: Any
) -> None:
    """In place of the method of this name of an attached trainer, which would overwrite what a person wrote.

    TRL's trainers call theirs with every checkpoint.
    """
    folder = Path(trainer.args.output_dir)
    told = Told(name=card_name(model_name, folder), datasets=as_names(dataset_name), tags=as_names(tags))
    if not trainer.is_world_process_zero():
        return
    try:
        model = unwrap(trainer.accelerator.unwrap_model(trainer.model))
        folder.mkdir(parents=True, exist_ok=True)
        facts, template = gather(trainer, model, told, {}, wait=0), template_of(trainer)
        Card.from_facts(facts, existing=read(folder / CARD), template=template, curves=False).save(folder)
    except Exception as error:
        _log.warning("The model card in %s is as it was: %s", folder, error, exc_info=error)


def of_checkpoint(trainer: Any, folder: Path, repo: str | None, measured: Mapping[str, float]) -> dict[str, bytes]:
    """The files for the checkpoint that is about to be saved; none where they cannot be made, which stops no training.

    Nothing is waited for: what the Hub says of the base is in the cards that come after its answer.
    """
    if not trainer.is_world_process_zero():
        return {}
    evaluated = {name: value for name, value in measured.items() if name.startswith("eval_")}
    trained = {name: value for name, value in measured.items() if name in ("loss", "reward")}
    try:
        name = card_name(repo, folder)
        told = Told(name=name and f"{name}, step {trainer.state.global_step}")
        facts = gather(trainer, unwrap(trainer.accelerator.unwrap_model(trainer.model)), told, evaluated, wait=0)
        training = facts.training and replace(facts.training, results={**facts.training.results, **trained})
        facts = replace(facts, training=training)
        existing, template = read(folder / CARD), template_of(trainer)
        return Card.from_facts(facts, existing=existing, template=template, curves=False).files()
    except Exception as error:  # a card is worth no checkpoint
        _log.warning("The checkpoint has no model card: %s", error, exc_info=error)
        return {}


def checked(template: str | os.PathLike[str] | None) -> Path | None:
    """A template for cards, wherever the program goes.

    Raises:
        NotFound, InvalidInput: There is none, or it is broken.
    """
    if template is None:
        return None
    path = Path(template).expanduser().resolve()
    Template(path)
    return path


def template_of(trainer: Any) -> Path | None:
    """The template that `attach` was given for this trainer's cards."""
    return getattr(vars(trainer).get("_perdure"), "card_template", None)


def read(path: Path) -> str | None:
    """A file that is there already; bytes that are no UTF-8 survive the way back."""
    try:
        if path.stat().st_size > _MAX_FILE:
            raise InvalidInput(f"{path} is too large to be read back; it stays as it is.")
        return path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return None
