"""A card's file: generated parts between marks, a person's words everywhere else.

```text
---
library_name: transformers       front matter; see `perdure.card.metadata`
---
<!-- perdure:summary -->
A fine-tuned version of …        a region: written by us
<!-- /perdure:summary -->

Anything else is a person's.

<!-- perdure:record {…} -->      digests of what we wrote last, and results
```

`Document` takes such a text apart and puts it together again without losing a character; `perdure.card.merge` decides
what changes in it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeAlias

from perdure.card import metadata
from perdure.card.results import Result, parse_results

_FRONT_MATTER = re.compile(r"(---[ \t]*\n)(.*?)(?:(?<=\n)|\n)(---[ \t]*(?:\n|\Z))", re.DOTALL)
_OPENING = re.compile(r"<!-- perdure:([a-z][a-z0-9_]*) -->")
_CLOSING = re.compile(r"<!-- /perdure:([a-z][a-z0-9_]*) -->[ \t]*")
_RECORD = re.compile(r"^<!-- perdure:record (\{.*\}) -->[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Region:
    """A generated part of the page."""

    name: str
    content: str

    @property
    def digest(self) -> str:
        """The mark of its content in a record."""
        return metadata.digest(self.content)

    def __str__(self) -> str:
        return f"<!-- perdure:{self.name} -->\n{self.content}\n<!-- /perdure:{self.name} -->"


Part: TypeAlias = "str | Region"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was written last.

    Args:
        keys: Key of the metadata → digest of its value.
        regions: Region → digest of its Markdown, in the order of the page.
        results: What was measured.
        own: Regions that a template of one's own wrote: nobody else can renew them.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, str] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    own: tuple[str, ...] = ()

    def __str__(self) -> str:
        document: dict[str, Any] = {"keys": dict(self.keys), "regions": dict(self.regions)}
        if self.results:
            document["results"] = [result.as_document() for result in self.results]
        if self.own:
            document["own"] = list(self.own)
        # A name in it could otherwise end the comment.
        source = json.dumps(document).replace("<", "\\u003c").replace(">", "\\u003e")
        return f"<!-- perdure:record {source} -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A card taken apart.

    Args:
        front: Its front matter, as it stands.
        parts: Its text: regions, and a person's words between them. The record stands in those.
        record: What was written last.
        fences: The lines around the front matter; None where there is none yet.
        newline: How its lines end, if they all end alike.
        mark: The byte order mark, where the file begins with one.
    """

    front: str = ""
    parts: tuple[Part, ...] = ()
    record: Record = field(default_factory=Record)
    fences: tuple[str, str] | None = None
    newline: str = "\n"
    mark: str = ""

    @staticmethod
    def parse(text: str) -> Document:
        """Take a text apart; any text is a card."""
        newline = "\r\n" if "\r\n" in text and "\n" not in text.replace("\r\n", "") else "\n"
        text = text.replace("\r\n", "\n") if newline == "\r\n" else text
        mark = "\ufeff" if text.startswith("\ufeff") else ""
        match = _FRONT_MATTER.match(text, len(mark))
        body = text[match.end() if match else len(mark) :]
        return Document(
            front=match[2] if match else "",
            parts=parts_of(body),
            record=_record(body),
            fences=(match[1], match[3]) if match else None,
            newline=newline,
            mark=mark,
        )

    def __str__(self) -> str:
        body, found = _RECORD.subn(lambda _: str(self.record), self.body, count=1)
        if not found and self.record != Record():
            body = body.rstrip("\n") + f"\n\n{self.record}\n"
        opening, closing = self.fences or (("---\n", "---\n") if self.front else ("", ""))
        end = "\n" if self.front and not self.front.endswith("\n") else ""
        return (self.mark + opening + self.front + end + closing + body).replace("\n", self.newline)

    @property
    def body(self) -> str:
        """The text below the metadata."""
        return "".join(map(str, self.parts))

    @property
    def metadata(self) -> dict[str, Any] | None:
        """What the front matter says; None where it cannot be edited safely."""
        return metadata.parse(self.front)

    def region(self, name: str) -> Region | None:
        """A generated part, where the page has it."""
        return next((part for part in self.parts if isinstance(part, Region) and part.name == name), None)


def front_matter(text: str) -> str:
    """The YAML at the head of a card; empty where there is none."""
    return Document.parse(text).front


def lines_of(text: str) -> Iterator[tuple[str, bool]]:
    """Each line of Markdown, and whether it belongs to a fenced listing, whose own lines are of it."""
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.fullmatch(line)
        yield line, bool(fence or mark)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not mark[2].strip():
            fence = ""


def has_title(parts: Sequence[Part]) -> bool:
    """Whether a person's words hold a title."""
    words = "".join(part for part in parts if isinstance(part, str))
    return any(not fenced and line.lower().startswith(("# ", "#\t", "<h1")) for line, fenced in lines_of(words))


def title_of(document: Document) -> str | None:
    """What the page calls the model.

    >>> title_of(Document.parse("```\\n# not this\\n```\\n# In C# #\\n"))
    'In C#'
    """
    for line, fenced in lines_of(document.body):
        if line.startswith("# ") and not fenced:
            title = line[2:].strip()
            bare = title.rstrip("#")
            if title := bare.rstrip() if bare.endswith(" ") else title if bare else "":
                return title
    return None


def _record(body: str) -> Record:
    match = _RECORD.search(body)
    try:
        values = json.loads(match[1]) if match else {}
        return Record(
            keys={str(key): str(mark) for key, mark in values.get("keys", {}).items()},
            regions={str(name): str(mark) for name, mark in values.get("regions", {}).items()},
            results=parse_results(values.get("results")),
            own=tuple(map(str, values.get("own", ()))),
        )
    except (
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # edited: nothing carries our digest then
        return Record()


def parts_of(body: str) -> tuple[Part, ...]:
    """The text below the metadata, taken apart."""
    lines = body.split("\n")
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    ends: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        if mark := _CLOSING.fullmatch(line):
            ends.setdefault(mark[1], []).append(number)
    parts: list[Part] = []
    seen: set[str] = set()
    at = number = 0
    while number < len(lines):
        mark = _OPENING.fullmatch(lines[number])
        closings = ends.get(mark[1], []) if mark else []
        place = bisect(closings, number)
        if mark is None or place == len(closings):
            number += 1
            continue
        end = closings[place]
        if mark[1] not in seen:  # else it is a copy that somebody made
            seen.add(mark[1])
            content = body[starts[number + 1] : starts[end]].removesuffix("\n")
            parts += [body[at : starts[number]], Region(mark[1], content)]
            at = starts[end + 1] - 1
        number = end + 1
    return tuple(part for part in (*parts, body[at:]) if part != "")
