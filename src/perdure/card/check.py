"""What is wrong with a card, or missing from it: for its author, before others read it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.card.document import Document, lines_of
from perdure.card.results import is_index
from perdure.card.secrets import is_secret
from perdure.card.vocabulary import LICENSES, TASKS, is_language
from perdure.format.hub_id import is_hub_id

_RELATIONS = ("adapter", "finetune", "merge", "quantized")
_PLACEHOLDER = re.compile(
    r"\[?more information needed\]?|(?-i:\bTODO\b)|model=\"None\"|\bfine-tuned version of \[None\]|lorem ipsum",
    re.IGNORECASE,
)
_LOCAL = re.compile(
    r"(?<![\w/.:-])(?:/(?:home|Users|root|mnt|data|tmp|scratch|workspace|opt|srv|var)/|~/(?=[\w.])|[A-Za-z]:\\|file://)[^\s`\"')\]]*"
)
_LINK = re.compile(
    r"(?:\]\(<?|<img\b[^<>]{0,500}?\bsrc=[\"']?|^ {0,3}\[[^\]\n]{1,500}\]:[ \t]*<?)(?!\w+:|#|/)([^)\s>#?\"']+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a card that its author should look at.

    Args:
        kind: `metadata` (the Hub refuses it or warns of it), `missing`, `placeholder`, `path`, `secret`, `dead-link` or
            `conflict`.
        part: The key, region or line that is meant.
        message: What is wrong, and what to do.
    """

    kind: str
    part: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.part}: {self.message}"


def check(document: Document, folder: Path | None = None) -> Iterator[Finding]:
    """All that is to be found; links to files are followed where the card's folder is known."""
    known = document.metadata
    if known is None:
        yield Finding(kind="metadata", part="metadata", message="it is no plain YAML mapping, or names a key twice")
    else:
        yield from _metadata(known)
    text = f"{document.front}\n{document.body}"
    for kind, pattern, why in (
        ("placeholder", _PLACEHOLDER, "say it, or take it out"),
        ("path", _LOCAL, "a path of one machine says nothing to others"),
    ):
        for found in dict.fromkeys(match[0] for match in pattern.finditer(text)):
            yield Finding(kind=kind, part=found[:80], message=why)
    for number, line in enumerate(str(document).splitlines(), start=1):
        if is_secret(line):
            yield Finding(kind="secret", part=f"line {number}", message="it looks like a token or a password")
    if folder is not None:
        yield from _dead_links(document.body, folder)


def _metadata(known: Mapping[str, Any]) -> Iterator[Finding]:
    for key, (holds, what) in _RULES.items():
        if known.get(key) is not None and not holds(known[key]):
            yield Finding(kind="metadata", part=key, message=f"it is {str(known[key])[:80]!r}; it should be {what}")
    if known.get("license") == "other" and not (known.get("license_name") and known.get("license_link")):
        yield Finding(kind="metadata", part="license", message="an `other` licence needs license_name and license_link")
    if known.get("license") is None:
        yield Finding(kind="missing", part="license", message="without one, nobody may use the model")
    if "licence" in known:
        yield Finding(kind="metadata", part="licence", message="the Hub does not know this key; it reads `license`")
    if known.get("base_model_relation") is not None and known.get("base_model") is None:
        yield Finding(kind="missing", part="base_model", message="there is a relation to it, and not its id")
    if known.get("library_name") == "peft" and known.get("base_model") is None:
        yield Finding(kind="missing", part="base_model", message="an adapter needs the Hub id of what it is for")


def _dead_links(body: str, folder: Path) -> Iterator[Finding]:
    words = "\n".join(line for line, fenced in lines_of(body) if not fenced)
    for target in dict.fromkeys(match[1] for match in _LINK.finditer(words)):
        if not _is_there(folder / target):
            yield Finding(
                kind="dead-link", part=target[:80], message=f"there is no such file in {folder.name or folder}"
            )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no file can have such a name
        return False


def _each(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: all(map(holds, value)) if isinstance(value, list) else holds(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


_RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "language": (
        _each(is_language),
        "codes of ISO 639 such as en, or 'no' in quotes",
    ),
    "license": (
        _each(lambda value: isinstance(value, str) and value in LICENSES),
        "an identifier of the Hub's list, such as apache-2.0",
    ),
    "license_name": (_is_text, "text"),
    "license_link": (_is_text, "a web address, or a file"),
    "library_name": (_is_text, "the name of a library, such as transformers"),
    "pipeline_tag": (lambda value: value in TASKS, "a task of the Hub's list, such as text-generation"),
    "tags": (_each(_is_text), "a list of texts"),
    "metrics": (_each(_is_text), "a list of texts"),
    "datasets": (_each(is_hub_id), "ids of datasets on a Hub"),
    "base_model": (_each(is_hub_id), "the id of a model on a Hub, or a list of ids"),
    "base_model_relation": (lambda value: value in _RELATIONS, f"one of {', '.join(_RELATIONS)}"),
    "model-index": (is_index, "a list of a name and results, each with task, dataset and metrics"),
}
