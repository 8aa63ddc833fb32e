"""Tell a model's id on the Hub from a path on this machine."""

from __future__ import annotations

import re
from pathlib import Path

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_ID = re.compile(rf"(?:{_PART}/)?{_PART}")
_CACHE = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]([0-9a-f]{40})(?:[/\\]|$)")


def hub_id(name: object) -> tuple[str, str | None] | None:
    """The Hub id that `name` stands for, with its revision where that is known; None for a path of this machine.

    A folder in the Hub's cache stands for the model that was downloaded into it.

    >>> hub_id("Qwen/Qwen3-0.6B")
    ('Qwen/Qwen3-0.6B', None)
    >>> hub_id("/data/models/mine") is None, hub_id("./mine") is None, hub_id(None) is None
    (True, True, True)
    """
    text = str(name) if isinstance(name, (str, Path)) else ""
    if cached := _CACHE.search(text):
        return cached[1].replace("--", "/", 1), cached[2]
    return (text, None) if is_hub_id(text) and not Path(text).exists() else None


def is_hub_id(text: str) -> bool:
    """Whether `text` has the form of a Hub id: one or two parts, and no path that begins with `/`, `.` or `~`.

    >>> is_hub_id("Qwen/Qwen3-0.6B"), is_hub_id("gpt2"), is_hub_id("./gpt2"), is_hub_id("a/b/c")
    (True, True, False, False)
    """
    return _ID.fullmatch(text) is not None and "--" not in text and ".." not in text and text != "None"
