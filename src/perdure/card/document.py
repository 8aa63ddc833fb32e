"""A card's file: generated parts between marks, a person's words everywhere else.

```text
---
library_name: transformers       front matter; see `perdure.card.metadata`
---
<!-- perdure:summary -->
A fine-tuned version of …        a region: written by us
<!-- /perdure:summary -->

Anything else is a person's.

<!-- perdure:record {…} -->      digests of what we wrote last
```

One rule decides everything: **what still has the digest we recorded is ours to renew; everything else is a
person's.** A region that somebody edited, a key that somebody changed, a region or key that somebody took out: all
of them stay as that person left them, through any number of refreshes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from perdure.card import metadata
from perdure.card.generated import generated_keys, is_generated, without_generated
from perdure.card.render import REGIONS, Rendered

_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\n(.*?)(?:(?<=\n)|\n)---[ \t]*(?:\n|\Z)", re.DOTALL)
_REGION = re.compile(r"^<!-- perdure:([a-z]+) -->\n(.*?)\n?^<!-- /perdure:\1 -->[ \t]*$", re.DOTALL | re.MULTILINE)
_RECORD = re.compile(r"^<!-- perdure:record (\{.*\}) -->[ \t]*$", re.MULTILINE)
_TITLE = re.compile(r"^#[ \t]|^<h1", re.MULTILINE | re.IGNORECASE)
_FENCED = re.compile(r"^(```+|~~~+).*?^\1", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Region:
    name: str
    content: str

    def __str__(self) -> str:
        return f"<!-- perdure:{self.name} -->\n{self.content}\n<!-- /perdure:{self.name} -->"


_Part = str | _Region


@dataclass(frozen=True, slots=True)
class _Record:
    """Digests of what was written last: of each key's value, and of each region's Markdown."""

    keys: Mapping[str, str]
    regions: Mapping[str, str]

    def __str__(self) -> str:
        return f"<!-- perdure:record {json.dumps({'keys': dict(self.keys), 'regions': dict(self.regions)})} -->"


def refresh(existing: str | None, rendered: Rendered) -> str:
    """The card's new text: generated parts as `rendered` has them, everything else as it was.

    Args:
        existing: The present text of README.md, or None. It may come from here, from TRL, from transformers or from
            a person; from a generated one, what a person wrote in it is kept and the rest replaced.
        rendered: The generated parts.
    """
    existing = existing or ""
    if "\r\n" in existing and "\n" not in existing.replace("\r\n", ""):
        return refresh(existing.replace("\r\n", "\n"), rendered).replace("\n", "\r\n")
    front, body = _split(existing)
    record = _record(body)
    present = metadata.parse(front) or {}
    renew = frozenset(key for key, mark in record.keys.items() if _has(present, key, mark))
    removed = frozenset(record.keys.keys() - present.keys())
    if not record.keys and is_generated(body):
        renew, body = generated_keys(present, rendered.metadata), without_generated(body)
    front = metadata.merge(front, rendered.metadata, renew=renew, removed=removed)
    parts = _merge_regions(_parts(body), rendered.regions, record.regions)
    return _join(front, "".join(map(str, parts)), _next_record(front, parts, rendered, record))


def kept_by_hand(text: str) -> tuple[str, ...]:
    """What the next refresh will leave alone because a person changed it, in words: regions, and keys.

    An empty result means that every generated part is ours to renew.
    """
    front, body = _split(text.replace("\r\n", "\n"))
    record = _record(body)
    present = metadata.parse(front)
    if present is None:
        return ("the metadata, which cannot be edited safely (not plain YAML)",)
    keys = [key for key, mark in record.keys.items() if key in present and not _has(present, key, mark)]
    regions = [
        part.name
        for part in _parts(body)
        if isinstance(part, _Region) and metadata.digest(part.content) != record.regions.get(part.name)
    ]
    return (*(f"the key {key!r}" for key in keys if key != "tags"), *(f"the part {name!r}" for name in regions))


def front_matter(text: str) -> str:
    """The YAML at the head of a card; empty where there is none."""
    return _split(text.replace("\r\n", "\n"))[0]


def _split(text: str) -> tuple[str, str]:
    match = _FRONT_MATTER.match(text)
    return (match[1], text[match.end() :]) if match else ("", text)


def _join(front: str, body: str, record: _Record) -> str:
    if front and not front.endswith("\n"):
        front += "\n"
    body, found = _RECORD.subn(lambda _: str(record), body, count=1)
    if not found:
        body = body.rstrip("\n") + f"\n\n{record}\n"
    return f"---\n{front}---\n{body}" if front else body


def _record(body: str) -> _Record:
    match = _RECORD.search(body)
    try:
        values = json.loads(match[1]) if match else {}
        keys, regions = values.get("keys", {}), values.get("regions", {})
        return _Record(
            {str(key): str(mark) for key, mark in keys.items()}, {str(k): str(m) for k, m in regions.items()}
        )
    except (ValueError, AttributeError, RecursionError):  # somebody edited it: then nothing carries our digest
        return _Record({}, {})


def _has(present: Mapping[str, object], key: str, mark: str) -> bool:
    return key in present and metadata.digest(present[key]) == mark


def _parts(body: str) -> list[_Part]:
    parts: list[_Part] = []
    seen: set[str] = set()
    at = 0
    for match in _REGION.finditer(body):
        if match[1] not in REGIONS or match[1] in seen:  # not ours, or a copy that somebody made
            continue
        seen.add(match[1])
        parts += [body[at : match.start()], _Region(match[1], match[2])]
        at = match.end()
    return [part for part in (*parts, body[at:]) if part != ""]


def _merge_regions(parts: list[_Part], new: Mapping[str, str], marks: Mapping[str, str]) -> list[_Part]:
    merged: list[_Part] = []
    for part in parts:
        if isinstance(part, str) or metadata.digest(part.content) != marks.get(part.name):
            merged.append(part)
        elif part.name in new:
            merged.append(_Region(part.name, new[part.name]))
    held = {part.name for part in merged if isinstance(part, _Region)}
    words = _FENCED.sub("", "".join(part for part in merged if isinstance(part, str)))
    for name, content in new.items():
        taken_out = name in marks and name not in held
        if name in held or taken_out or (name == "title" and _TITLE.search(words)):
            continue
        _insert(merged, _Region(name, content), after_words=_TITLE.search(words) is not None)
    return merged


def _insert(parts: list[_Part], region: _Region, *, after_words: bool) -> None:
    """Put a region in its place among the others; a page that a person began with a title keeps its beginning."""
    order = REGIONS.index
    places = [(index, order(part.name)) for index, part in enumerate(parts) if isinstance(part, _Region)]
    before = [index for index, place in places if place < order(region.name)]
    after = [index for index, place in places if place > order(region.name)]
    if before:
        parts[before[-1] + 1 : before[-1] + 1] = ["\n\n", region]
    elif after:
        parts[after[0] : after[0]] = [region, "\n\n"]
    elif after_words:
        last = parts[-1] if parts and isinstance(parts[-1], str) else ""
        parts += ["\n" * max(0, 2 - (len(last) - len(last.rstrip("\n")))), region, "\n"]
    else:
        parts[0:0] = ["\n", region, "\n\n" if parts else "\n"]


def _next_record(front: str, parts: list[_Part], rendered: Rendered, last: _Record) -> _Record:
    """Remember what is ours now; and of what a person changed or took out, what we last wrote, so that it stays so."""
    present = metadata.parse(front) or {}
    written = {part.name: part.content for part in parts if isinstance(part, _Region)}
    keys = {
        key: metadata.digest(value) if present.get(key) == value else last.keys.get(key, "")
        for key, value in rendered.metadata.items()
    }
    regions = {
        name: metadata.digest(content) if written.get(name) == content else last.regions.get(name, "")
        for name, content in rendered.regions.items()
    }
    return _Record({**_still_out(last.keys, present), **keys}, {**_still_out(last.regions, written), **regions})


def _still_out(marks: Mapping[str, str], present: Mapping[str, object]) -> dict[str, str]:
    return {name: mark for name, mark in marks.items() if name not in present}
