"""What the Hub says of a base model, for cards of models that were made from it."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import replace
from pathlib import Path
from threading import Thread

from perdure.card import folder as saved
from perdure.card.facts import BaseModel, Facts
from perdure.card.origin import Origin

PATIENCE = 4.0  # seconds for the Hub to say what the base's licence is

_asked: dict[tuple[str, str | None], Future[dict[str, object]]] = {}


def facts_of(folder: str | Path) -> Facts:
    """The facts of a saved model, for its card: those kept beside it, or else what its files say.

    The licence and languages of its base are asked of the Hub where no file tells them and the Hub answers in time.

    Raises:
        NotFound: There is no such folder.
        InvalidInput: There is no model in it, or its `card_facts.json` is none.
        UnsupportedFormat: A newer perdure wrote it.

    ```python
    facts = perdure.facts_of("out")
    card = perdure.Card.from_folder("out", facts=facts)
    ```
    """
    facts = saved.facts_of(folder)
    if facts.base is None or facts.license is not None:
        return facts
    told = Origin(id=facts.base.id, languages=facts.languages).described(metadata_of(facts.base, PATIENCE))
    return replace(facts, license=told.license, languages=told.languages)


def metadata_of(base: BaseModel, wait: float) -> dict[str, object]:
    """What the Hub says of a base, which is asked once.

    Never an error, and never more than a wait: the answer may come in time for the next card.
    """
    key = (base.id, base.revision)
    if key not in _asked:
        _asked[key] = Future()
        Thread(target=_ask, args=(*key, _asked[key]), daemon=True, name="perdure-base").start()
    try:
        return _asked[key].result(wait)
    except NotInTime:
        return {}


def _ask(repo: str, revision: str | None, answer: Future[dict[str, object]]) -> None:
    from perdure.publishing import client

    try:
        answer.set_result(client.metadata_of(repo, revision, seconds=PATIENCE))
    except Exception:  # no Hub, no such repository, no client: then a card says nothing of a licence
        answer.set_result({})
