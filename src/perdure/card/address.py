"""Where a card says that its model is: in the lines that load it."""

from __future__ import annotations

from dataclasses import replace

from perdure.card.document import Document
from perdure.card.facts import Facts
from perdure.card.merge import put_region
from perdure.card.snippets import usage
from perdure.card.template import shipped

_USAGE = "usage"


def addressed(text: str, facts: Facts, *, repo: str, revision: str | None) -> tuple[str, Facts]:
    """The card and its facts, for a model that is to be loaded from a repository.

    Lines that a person edited, or that a template of one's own made, stay as they are.

    Args:
        text: The card.
        facts: What it was made of.
        repo: The repository.
        revision: The branch; None for main.
    """
    moved = replace(facts, repo=repo, revision=revision)
    document = Document.parse(text)
    present, content = document.region(_USAGE), _usage(moved)
    if present is None or not content or present.content != _usage(facts):
        return text, moved
    return str(put_region(document, _USAGE, content, shipped().regions)[0]), moved


def _usage(facts: Facts) -> str:
    return shipped().block(_USAGE, {"usage": usage(facts)})
