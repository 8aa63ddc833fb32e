"""A card's front matter: YAML that a person may have written, edited in place, key by key.

Only the keys that are ours to renew change; every other byte stays, comments and order included. After each edit the
result is parsed again and compared with what it should mean: an edit that would change anything else is not made.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from perdure.format.front_matter import compose

_MAX_LENGTH = 256 * 1024  # characters; the Hub takes far less
_EDITABLE_LISTS = frozenset({"tags", "datasets"})
# Plain scalars that YAML 1.1 and 1.2 both read as this very string.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_/.-]*")
_RESERVED = re.compile(r"(?:null|true|false|yes|no|on|off|y|n)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    start: int
    end: int
    node: yaml.Node
    value: Any


def parse(source: str) -> dict[str, Any] | None:
    """What front matter says, or None if it is not a mapping that can be edited safely.

    Aliases are refused with the rest: they make one place in the text two places in the meaning. What is read once is
    remembered: the values are to be looked at, not changed.
    """
    entries = _entries(source)
    return None if entries is None else {key: entry.value for key, entry in entries.items()}


def merge(source: str, ours: Mapping[str, object], *, renew: frozenset[str], removed: frozenset[str]) -> str:
    """Put our keys into front matter.

    Args:
        source: YAML as it stands; what cannot be parsed is returned as it is.
        ours: Keys and values as they should be now.
        renew: Keys that nobody has changed since we wrote them: these take our value, or go when we have none.
        removed: Keys that a person took out: these stay out.

    A key that is present and not to be renewed keeps its value; of `tags` and `datasets`, what is missing is added.
    Tags are never taken away.
    """
    present = parse(source)
    if present is None:
        return source
    for key in (key for key in present if key in renew and key not in ours and key != "tags"):
        source = _edit(source, key, None)
    missing = {key: value for key, value in ours.items() if key not in present and key not in removed}
    for key, value in ours.items():
        if key in missing or key in removed:
            continue
        if isinstance(value, list) and (key == "tags" or (key in _EDITABLE_LISTS and key not in renew)):
            source = _extend(source, key, value)
        elif key in renew and present[key] != value:
            source = _edit(source, key, value)
    return _append(source, missing) if missing else source


def put(source: str, key: str, value: object | None) -> str:
    """Set one key, or take it out with None; what cannot be edited without losing a comment is returned as it is."""
    entries = _entries(source)
    if entries is None:
        return source
    if key not in entries:
        return source if value is None else _append(source, {key: value})
    entry = entries[key]
    written = source[entry.start : entry.end].rstrip("\n")
    if written != dump({key: entry.value}).rstrip("\n") and re.search(r"(?:^|\s)#", written):
        return source
    return _edit(source, key, value)


def dump(values: Mapping[str, object]) -> str:
    """YAML whose strings mean the same to readers of YAML 1.1 (Python) and 1.2 (the Hub).

    >>> print(dump({"language": ["no"], "tags": ["a: b", "1e3", "sft"]}), end="")
    language:
    - 'no'
    tags:
    - 'a: b'
    - '1e3'
    - sft
    """
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def digest(value: object) -> str:
    """A short mark of a value's meaning: how it is written in YAML does not matter."""
    canonical = json.dumps(_with_text_keys(value), sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _with_text_keys(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(inner) for key, inner in value.items()}
    return [_with_text_keys(inner) for inner in value] if isinstance(value, list) else value


class _Dumper(yaml.SafeDumper):
    pass


def _represent_str(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) is not None and _RESERVED.fullmatch(value) is None
    style = None if plain else '"' if re.search(r"[\x00-\x1f\x7f\u0085\u2028\u2029]", value) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_str)


@lru_cache(maxsize=8)  # each step of an edit looks at what the one before it left
def _entries(source: str) -> dict[str, _Entry] | None:
    if len(source) > _MAX_LENGTH:
        return None
    try:
        root, values = compose(source)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode) or root.flow_style or not isinstance(values, dict):
        return None
    if [key.value for key, _ in root.value] != list(values):
        return None  # a key twice, one that is no text, or a merge: which place is meant is not certain
    return {
        name: _Entry(start=key.start_mark.index, end=_end(node), node=node, value=values[name])
        for name, (key, node) in zip(values, root.value, strict=True)
    }


def _end(node: yaml.Node) -> int:
    # A block collection's own end mark lies after the comments that follow it.
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _checked(before: str, after: str, changed: Mapping[str, object | None]) -> str:
    """`after`, if it differs from `before` in nothing but these values, of which None is none; else `before`."""
    old, new = parse(before), parse(after)
    if old is None or new is None:
        return before
    wanted = {key: value for key, value in {**old, **changed}.items() if value is not None or key not in changed}
    return after if new == wanted else before


def _append(source: str, values: Mapping[str, object]) -> str:
    separator = "" if not source or source.endswith("\n") else "\n"
    return _checked(source, source + separator + dump(values), values)


def _edit(source: str, key: str, value: object | None) -> str:
    entry = (_entries(source) or {})[key]
    text = "" if value is None else dump({key: value}).rstrip("\n")
    end = entry.end
    if value is None and source[end : end + 1] == "\n":
        end += 1
    return _checked(source, source[: entry.start] + text + source[end:], {key: value})


def _extend(source: str, key: str, items: list[object]) -> str:
    entry = (_entries(source) or {})[key]
    present = entry.value
    if not isinstance(present, list):
        held = [] if present is None else [present]
        return _edit(source, key, held + [item for item in items if item not in held])
    missing = [item for item in items if item not in present]
    if not missing:
        return source
    if not present:
        return _edit(source, key, missing)
    if isinstance(entry.node, yaml.CollectionNode) and entry.node.flow_style:
        lines = [line.removeprefix("- ") for line in dump({key: missing}).splitlines()[1:]]
        at, addition = entry.end - 1, ", " + ", ".join(lines)
    else:
        newline = source.find("\n", entry.end)
        at = len(source) if newline < 0 else newline  # after a comment on the last item's line
        margin = " " * entry.node.start_mark.column
        addition = "".join(f"\n{margin}{line}" for line in dump({key: missing}).splitlines()[1:])
    return _checked(source, source[:at] + addition + source[at:], {key: present + missing})
