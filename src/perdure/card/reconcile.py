"""One card in two places: as it was made here, and as it is on the Hub, where people may have written in it since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from perdure.card import metadata
from perdure.card.document import Document, Region, title_of
from perdure.card.merge import INDEX, Conflict, Rendered, index, put_region, refresh
from perdure.card.render import evaluation
from perdure.card.results import Result, latest
from perdure.card.template import shipped


def add_results(
    document: Document, results: Sequence[Result], *, model: str | None = None
) -> tuple[Document, list[Conflict]]:
    """The card with more results in its table and its model-index.

    Args:
        document: The card.
        results: Each takes the place of one with the same key.
        model: The model's name in the index; by default the card's title.
    """
    every = latest((*document.record.results, *results))
    asked = {result.key for result in results}
    document, conflicts = index(document, model or title_of(document), every, explicit=asked)
    document, more = put_region(document, "evaluation", evaluation(every), shipped().regions)
    return replace(document, record=replace(document.record, results=every)), [*conflicts, *more]


def results_of_others(ours: Document, theirs: Document) -> tuple[Result, ...]:
    """What was measured after the run and written onto `theirs` alone."""
    known = {result.key for result in ours.record.results if result.added}
    return tuple(result for result in theirs.record.results if result.added and result.key not in known)


def reconcile(ours: Document, theirs: Document) -> Document | None:
    """`ours`, with all that people wrote into `theirs`; None where both have words that the other lacks.

    >>> str(reconcile(Document.parse("---\\nlicense: mit\\n---\\n"), Document.parse("# Mine\\n"))).splitlines()[:4]
    ['---', 'license: mit', '---', '# Mine']
    """
    known, said = ours.metadata, theirs.metadata
    if known is None or said is None:
        return None
    here, there = set(_words(ours)), set(_words(theirs))
    if here <= there:
        regions = {part.name: part.content for part in ours.parts if isinstance(part, Region)}
        keys = {key: value for key, value in known.items() if key != INDEX}
        made = Rendered(
            name=title_of(ours), metadata=keys, regions=regions, results=ours.record.results, own=ours.record.own
        )
        return refresh(theirs, made)[0]
    if there <= here:
        told = {key: value for key, value in said.items() if key != INDEX and not _is_ours(theirs, key, value)}
        mine = frozenset(key for key, value in known.items() if _is_ours(ours, key, value))
        return replace(ours, front=metadata.merge(ours.front, told, renew=mine & told.keys(), removed=frozenset()))
    return None


def _is_ours(document: Document, key: str, value: object) -> bool:
    return document.record.keys.get(key) == metadata.digest(value)


def _words(document: Document) -> Iterator[str]:
    """The lines that a person wrote: outside of the generated regions, or into one of them."""
    for part in document.parts:
        if isinstance(part, Region) and part.digest == document.record.regions.get(part.name):
            continue
        text = part.content if isinstance(part, Region) else part
        yield from (line.strip() for line in text.splitlines() if line.strip() and "<!-- perdure:" not in line)
