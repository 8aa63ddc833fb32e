"""Import an optional library, or say exactly what to install."""

from __future__ import annotations

import importlib
import json
from importlib import metadata
from shlex import quote
from types import ModuleType
from urllib.parse import urlsplit
from urllib.request import url2pathname

from perdure.errors import MissingDependency

# import name → (extra that brings it, name people know it by)
_EXTRAS = {
    "torch": ("torch", "PyTorch"),
    "transformers": ("hf", "transformers"),
    "trl": ("hf", "TRL"),
    "peft": ("hf", "PEFT"),
    "accelerate": ("hf", "Accelerate"),
    "datasets": ("hf", "datasets"),
    "huggingface_hub": ("hf", "huggingface_hub"),
    "tokenizers": ("hf", "tokenizers"),
    "starlette": ("hub", "Starlette"),
    "uvicorn": ("hub", "uvicorn"),
    "dulwich": ("hub", "dulwich"),
    "lz4": ("hub", "lz4"),
    "markdown_it": ("hub", "markdown-it-py"),
    "nh3": ("hub", "nh3"),
    "matplotlib": ("plots", "matplotlib"),
}


def require(name: str, purpose: str) -> ModuleType:
    """Import `name`, which `purpose` cannot do without.

    Args:
        name: A module's dotted name; its first part decides which extra to name.
        purpose: What needs it, as the subject of a sentence: "`save_model`", "`perdure serve`".

    Raises:
        MissingDependency: The library is not installed; the message holds the exact install line.

    >>> require("json", "this example").__name__
    'json'
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = (error.name or name).partition(".")[0]
        if top != name.partition(".")[0]:  # installed, but broken: a message about installing it would mislead
            raise
        extra, known_as = _EXTRAS.get(top, ("all", top))
        raise MissingDependency(
            f"{purpose} needs {known_as}, which is not installed.",
            hint=f"Install it with: {install_line(extra)}",
        ) from error


def install_line(extra: str) -> str:
    """The command that adds an extra to this installation: from the folder or file it came from, or by its name."""
    try:
        origin = json.loads(metadata.distribution("perdure").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        origin = {}
    address = urlsplit(origin.get("url", ""))
    source = url2pathname(address.path) if address.scheme == "file" else "perdure"
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}{quote(f'{source}[{extra}]')}"
