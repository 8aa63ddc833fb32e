"""The YAML block at the top of a README.md: reading it safely, checking it, and the tags that follow from it."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import yaml

from perdure.format.front_matter import FrontMatterError, compose
from perdure.hub import limits

_BLOCK: Final = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)(?:^---[ \t]*\r?$)", re.DOTALL | re.MULTILINE)
# key → whether a list is allowed as well as a single string
_TEXT_KEYS: Final = {
    "license": True,
    "language": True,
    "library_name": False,
    "pipeline_tag": False,
    "tags": True,
    "datasets": True,
    "metrics": True,
    "base_model": True,
    "base_model_relation": False,
    "thumbnail": False,
}

# what people filter datasets by
_DATASET_KEYS: Final = (
    "task_categories", "task_ids", "language", "language_creators", "annotations_creators", "multilinguality",
    "size_categories", "source_datasets",
)  # fmt: skip


class CardError(ValueError):
    """The YAML block cannot be read; the message is for the person who wrote it."""


def read_metadata(readme: str) -> dict[str, Any]:
    """The metadata of a card, as JSON can carry it; empty when it has none.

    Raises:
        CardError: There is a block, but it is not a YAML mapping, is too large or too deep, or uses anchors (a few
            lines of which can stand for gigabytes) or tags (which make values of what is none).
    """
    match = _BLOCK.match(readme)
    if match is None:
        return {}
    block = match[1]
    if len(block) > limits.CARD_METADATA:
        raise CardError(f"The metadata is larger than {limits.CARD_METADATA} characters.")
    try:
        _, value = compose(block)
        value = json.loads(json.dumps(value, default=str, allow_nan=False))
    except FrontMatterError as error:
        raise CardError(str(error)) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise CardError(f"The metadata is not valid YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CardError("The metadata must be a mapping of keys to values.")
    return value


def body(readme: str) -> str:
    """A card's text below its metadata."""
    match = _BLOCK.match(readme)
    return readme[match.end() :] if match else readme


def check_metadata(readme: str) -> tuple[list[str], list[str]]:
    """What is wrong with a card's metadata: errors, and warnings."""
    try:
        metadata = read_metadata(readme)
    except CardError as error:
        return [str(error)], []
    if not metadata:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = []
    for key, list_allowed in _TEXT_KEYS.items():
        value = metadata.get(key)
        if value is None or isinstance(value, str):
            continue
        if not (list_allowed and isinstance(value, list) and all(isinstance(item, str) for item in value)):
            errors.append(f'"{key}" must be a string{" or a list of strings" if list_allowed else ""}')
    if not isinstance(metadata.get("model-index", []), list):
        errors.append('"model-index" must be a list')
    return errors, []


def tags(metadata: dict[str, Any], kind: str = "model") -> list[str]:
    """The tags that a card's metadata gives a repository of that kind, as the Hub spells them."""
    found = [*_texts(metadata.get("tags"))]
    found += _dataset_tags(metadata) if kind == "dataset" else _model_tags(metadata)
    found += [f"license:{name}" for name in _texts(metadata.get("license"))]
    return list(dict.fromkeys(found))


def _model_tags(metadata: dict[str, Any]) -> list[str]:
    relation = metadata.get("base_model_relation")
    found = [text for key in ("library_name", "pipeline_tag", "language") for text in _texts(metadata.get(key))]
    for base in _texts(metadata.get("base_model")):
        found.append(f"base_model:{base}")
        if isinstance(relation, str):
            found.append(f"base_model:{relation}:{base}")
    return found + [f"dataset:{name}" for name in _texts(metadata.get("datasets"))]


def _dataset_tags(metadata: dict[str, Any]) -> list[str]:
    return [f"{key}:{text}" for key in _DATASET_KEYS for text in _texts(metadata.get(key))]


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]
