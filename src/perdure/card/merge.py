"""What changes in a card when it is made anew, and what a person's hand keeps as it is.

One rule decides everything: **what still has the digest we recorded is ours to renew; everything else is a
person's.** A region that somebody edited, a key that somebody changed, a region or key that somebody took out: all
of them stay as that person left them, through any number of refreshes. Where the present text says otherwise than we
would, that is a `Conflict`: reported, and a person's to resolve.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perdure.card import metadata
from perdure.card.document import Document, Part, Record, Region, has_title, parts_of
from perdure.card.generated import NewPage, generated_keys, is_generated, kept_tags, without_generated
from perdure.card.results import Key, Result, merge_index
from perdure.errors import InvalidInput

INDEX = "model-index"
_MOST_SHOWN = 200  # characters of a line in a message
_GROWING = ("tags", "datasets")  # what is missing in them is added


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The generated parts of a card.

    Args:
        name: The model's name; None where it has none.
        metadata: Keys of the Hub's front matter → values, in order; without the model-index.
        regions: Region → Markdown, in the order of the page; those that say nothing are empty.
        results: What was measured.
        own: Regions that a template of one's own wrote.
    """

    name: str | None
    metadata: Mapping[str, object]
    regions: Mapping[str, str]
    results: tuple[Result, ...] = ()
    own: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A generated part that a person changed, and that says otherwise than it would now.

    Args:
        part: The key of the metadata, or the region, that is meant; `metadata` where all of it is no plain YAML.
        kind: `key`, `region`, or `block` for all of the metadata.
        present: What it says, which stays.
        generated: What it would say; of the model-index, what was measured otherwise.
    """

    part: str
    kind: str
    present: str
    generated: str

    def __str__(self) -> str:
        if self.kind == "block":
            return "the metadata is no plain YAML, and stays as it is"
        new = _first_other(self.generated, self.present)
        if not self.present:
            return f"the {self.kind} {self.part!r} has no place in what was written by hand: {new}"
        old = _first_other(self.present, self.generated)
        return f"the {self.kind} {self.part!r} was edited by hand and stays as it is: {old}; it would say: {new}"


def _first_other(text: str, other: str) -> str:
    """The first line of `text` that is not in `other`, or else its first one."""
    known, lines = set(other.splitlines()), text.strip().splitlines() or [""]
    line = next((line for line in lines if line not in known), lines[0]).strip()
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}…"


def refresh(document: Document, rendered: Rendered, *, renew: Collection[str] = ()) -> tuple[Document, list[Conflict]]:
    """The card's new content: generated parts as `rendered` has them, everything else as it was.

    Args:
        document: The card as it stands. It may come from here, from TRL, from transformers or from a person; from a
            generated one, what a person wrote in it is kept and the rest replaced.
        rendered: The generated parts.
        renew: Parts to write whoever changed them, as `Conflict.part` names them.

    Raises:
        InvalidInput: There is no such part.
    """
    _require_parts(document, rendered, renew)
    rendered = _beside_templates(document, rendered, renew)
    if "metadata" in renew and document.metadata is None:
        document = replace(document, front="", record=replace(document.record, keys={}))
    record, present = document.record, document.metadata or {}
    mine = frozenset(
        key for key, mark in record.keys.items() if key in present and metadata.digest(present[key]) == mark
    )
    removed = frozenset(record.keys.keys() - present.keys()).difference(renew)
    if not record.keys and is_generated(document.body):
        mine = generated_keys(present, rendered.name)
        document = _adopted(document, present, rendered)
    front = metadata.merge(document.front, rendered.metadata, renew=mine.union(renew), removed=removed)
    asked = {result.key for result in rendered.results} if INDEX in renew else ()
    document, conflicts = index(replace(document, front=front), rendered.name, rendered.results, explicit=asked)
    parts = _merge_regions(document.parts, rendered.regions, record.regions, renew)
    renewed = replace(document, parts=tuple(parts), record=_next_record(document, present, parts, rendered))
    return renewed, [*_conflicts(front, parts, rendered, record, removed), *conflicts]


def _require_parts(document: Document, rendered: Rendered, renew: Collection[str]) -> None:
    record, present = document.record, document.metadata
    keys = {*rendered.metadata, *record.keys, *(present or {}), INDEX} if present is not None else {"metadata"}
    known = [*sorted(keys), *dict.fromkeys((*rendered.regions, *record.regions))]
    if unknown := sorted(set(renew).difference(known)):
        raise InvalidInput(
            f"A card has no part {', '.join(map(repr, unknown))} that could be written anew.",
            hint=f"Its parts are: {', '.join(known)}",
        )


def _beside_templates(document: Document, rendered: Rendered, renew: Collection[str]) -> Rendered:
    """With what a template of one's own wrote: that stays as it is until the template is used again."""
    written = {name: document.region(name) for name in document.record.own if name not in {*rendered.own, *renew}}
    kept = {name: region.content if region is not None else "" for name, region in written.items()}
    return replace(rendered, regions={**rendered.regions, **kept}, own=(*rendered.own, *kept))


def _adopted(document: Document, present: Mapping[str, Any], rendered: Rendered) -> Document:
    """A card that another tool wrote, with a person's words, and with what is not known but from it."""
    tags = present.get("tags")
    page = NewPage(name=rendered.name, regions=rendered.regions, front=document.front)
    if isinstance(tags, list) and kept_tags(tags) != tags:
        document = replace(document, front=metadata.put(document.front, "tags", kept_tags(tags)))
    return replace(document, parts=parts_of(without_generated(document.body, page)))


def index(
    document: Document, name: str | None, results: Sequence[Result], *, explicit: Collection[Key]
) -> tuple[Document, list[Conflict]]:
    """Put results into the metadata's model-index; see `merge_index`."""
    present = document.metadata
    if present is None:
        return document, []
    held = present.get(INDEX)
    merged = merge_index(held, name, results, last=document.record.results, explicit=explicit)
    kept = list(merged.kept)
    if merged.value != (held or []):
        front = metadata.put(document.front, INDEX, merged.value or None)
        if front == document.front:
            kept.append("it has comments or a form that an edit would lose")
        document = replace(document, front=front)
    return document, [
        Conflict(part=INDEX, kind="key", present=metadata.dump({INDEX: held}), generated=why) for why in kept
    ]


def put_region(document: Document, name: str, content: str, order: Sequence[str]) -> tuple[Document, list[Conflict]]:
    """Renew one region, or put it into its place, unless a person changed it."""
    present, mark = document.region(name), document.record.regions.get(name)
    is_theirs = present is not None and (present.digest != mark or name in document.record.own)
    if present is not None and is_theirs and present.content != content:
        return document, [Conflict(part=name, kind="region", present=present.content, generated=content)]
    region, parts = Region(name, content), list(document.parts)
    if present is not None:
        parts[parts.index(present)] = region
    else:
        _insert(parts, region, order)
    record = replace(document.record, regions={**document.record.regions, name: region.digest})
    return replace(document, parts=tuple(parts), record=record), []


def _conflicts(
    front: str, parts: Sequence[Part], rendered: Rendered, last: Record, removed: Collection[str]
) -> list[Conflict]:
    """What a person keeps from changing; what is as it was when they chose otherwise is settled."""
    present, dump = metadata.parse(front), metadata.dump
    if present is None:
        return [Conflict(part="metadata", kind="block", present=front, generated=dump(rendered.metadata))]
    keys = [
        Conflict(
            part=key,
            kind="key",
            present=dump({key: present[key]}) if key in present else "",
            generated=dump({key: value}),
        )
        for key, value in rendered.metadata.items()
        if not (key in removed or _says(present, key, value) or metadata.digest(value) == last.keys.get(key))
    ]
    regions = [
        Conflict(part=part.name, kind="region", present=part.content, generated=new)
        for part in parts
        if isinstance(part, Region) and (new := rendered.regions.get(part.name)) and new != part.content
        if metadata.digest(new) != last.regions.get(part.name)
    ]
    return keys + regions


def _says(present: Mapping[str, Any], key: str, value: object) -> bool:
    held = present.get(key)
    if key in _GROWING and isinstance(held, list) and isinstance(value, list):
        return all(item in held for item in value)
    return key in present and held == value


def _merge_regions(
    parts: Sequence[Part], new: Mapping[str, str], marks: Mapping[str, str], renew: Collection[str]
) -> list[Part]:
    merged: list[Part] = []
    for part in parts:
        ours = isinstance(part, Region) and (part.digest == marks.get(part.name) or part.name in renew)
        if isinstance(part, str) or not ours:
            merged.append(part)
        elif new.get(part.name):
            merged.append(Region(part.name, new[part.name]))
    held = {part.name for part in merged if isinstance(part, Region)}
    for name, content in new.items():
        taken_out = name in marks and name not in renew
        if name in held or not content or taken_out or (name == "title" and has_title(merged)):
            continue
        _insert(merged, Region(name, content), list(new))
    return merged


def _insert(parts: list[Part], region: Region, names: Sequence[str]) -> None:
    """Put a region in its place among the others; a page that a person began with a title keeps its beginning."""
    order = {name: place for place, name in enumerate(names)}
    own = order.get(region.name, len(order))
    places = [(i, order.get(part.name, len(order))) for i, part in enumerate(parts) if isinstance(part, Region)]
    before = [i for i, place in places if place < own]
    after = [i for i, place in places if place > own]
    if before:
        parts[before[-1] + 1 : before[-1] + 1] = ["\n\n", region]
    elif after:
        parts[after[0] : after[0]] = [region, "\n\n"]
    elif has_title(parts):
        last = parts[-1] if parts and isinstance(parts[-1], str) else ""
        parts += ["\n" * max(0, 2 - (len(last) - len(last.rstrip("\n")))), region, "\n"]
    else:
        parts[0:0] = ["\n", region, "\n\n" if parts else "\n"]


def _next_record(document: Document, before: Collection[str], parts: Sequence[Part], rendered: Rendered) -> Record:
    """Remember what is ours now; and of what a person changed or took out, what we last wrote, so that it stays so."""
    present, last = document.metadata, document.record
    written = {part.name: part.content for part in parts if isinstance(part, Region)}
    had = {part.name for part in document.parts if isinstance(part, Region)}
    return Record(
        # Of metadata that is no YAML for a while, nothing is known to be taken out.
        keys=last.keys if present is None else _marks(present, rendered.metadata, last.keys, before),
        regions=_marks(written, {name: new for name, new in rendered.regions.items() if new}, last.regions, had),
        results=rendered.results,
        own=rendered.own,
    )


def _marks(
    present: Mapping[str, Any], ours: Mapping[str, object], last: Mapping[str, str], before: Collection[str]
) -> dict[str, str]:
    """Name → digest of what we wrote last under it; what we never wrote has none."""
    marks = {name: mark for name, mark in last.items() if name not in before or name in present}
    return marks | {name: metadata.digest(value) for name, value in ours.items() if present.get(name) == value}
