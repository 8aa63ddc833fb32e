"""Tell a repository's id on the Hub from a path on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeGuard

HUB = "https://huggingface.co"

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_CACHE = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]([0-9a-f]{40})(?:[/\\]|$)")
# Names that are a file, a Trainer's checkpoint, or an absent value that was turned into text.
_NOT_A_REPO = re.compile(
    r"(.*/)?checkpoint-\d+|none|null|nan|.*\.(json|jsonl|csv|tsv|txt|parquet|arrow|zip|gz|zst|bin|pt|pth|safetensors|py)",
    re.IGNORECASE,
)


def why_no_repo(text: str) -> str | None:
    """Why no repository on the Hub can have this name (`NAME` or `NAMESPACE/NAME`); None if one can.

    >>> why_no_repo("me/my-model") is None, why_no_repo("me/my--model")
    (True, "'--' and '..' are not allowed in it")
    """
    parts = text.split("/")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        return "each part has letters, digits, '-', '_' and '.', and neither starts nor ends with '-' or '.'"
    if "--" in text or ".." in text:
        return "'--' and '..' are not allowed in it"
    if text.endswith(".git"):
        return "it must not end with '.git'"
    if len(text) > 96:
        return "it is longer than 96 characters"
    return None


def is_hub_id(text: object) -> TypeGuard[str]:
    """Whether `text` is most likely meant as a repository's id: a name one can have, and not a file's or "None".

    >>> [is_hub_id(name) for name in ("openai/gsm8k", "gpt2", "./out", "a/b/c", "~/x", "C:\\\\x", "None", "")]
    [True, True, False, False, False, False, False, False]
    """
    return isinstance(text, str) and why_no_repo(text) is None and _NOT_A_REPO.fullmatch(text) is None


def looks_like_hub_id(text: object) -> TypeGuard[str]:
    """Whether `text` is a Hub id and nothing on disk has that name: libraries that load by name look there first."""
    return is_hub_id(text) and not Path(text).exists()


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
    return (text, None) if looks_like_hub_id(text) else None
