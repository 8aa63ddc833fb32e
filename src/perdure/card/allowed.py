"""What a card may repeat: short text that is no secret and names no place on some disk."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from typing import TypeGuard
from urllib.parse import urlsplit

from perdure.card.numbers import plain
from perdure.card.secrets import is_secret, names_secret
from perdure.errors import InvalidInput

_MAX_TEXT = 500  # characters; what is longer is data, and no fact about it
_PATH = re.compile(
    r"^[/~\\]|^\.{1,2}([/\\]|$)"
    r"|[=,;:'\"(\[{]~?/[\w.~-]|\s~?/[\w.~-]+(?:/|[\s,;]|$)"
    r"|[\s=,;:'\"(\[{](?:\.{1,2}[/\\]|~[\w.-]*/|\\\\\w)|(?<![A-Za-z0-9])(?:[A-Za-z]:[\\/](?!/)|file:)"
)
_RANDOM = re.compile(
    r"(?<![A-Za-z0-9+/])(?:[0-9a-fA-F]{32,}|(?=[a-z0-9+]*[A-Z])(?=[A-Z0-9+]*[a-z])(?=[A-Za-z+]*\d)[A-Za-z0-9+]{32,})"
)
_COMMIT_NAME = re.compile(r".*(revision|commit|sha\d*|hash|digest|fingerprint|checksum)")
_NO_PUBLIC_NAME = (
    "local", "localhost", "localdomain", "internal", "intranet", "lan", "corp", "home", "private", "home.arpa",
)  # fmt: skip
_HOST = re.compile(r"\w://(?:[^/?#\s@]*@)?([^/?#\s:\"']+)|(?<![\w.-])((?:\d{1,3}\.){3}\d{1,3})(?![\w.-])")


def is_path(text: str) -> bool:
    r"""Whether text is, or holds, a place on some disk.

    >>> [is_path(text) for text in ("/data/x", "~/x", "../x", "C:\\x", "file:///x", "--out=/data/x", "in /data")]
    [True, True, True, True, True, True, True]
    >>> [is_path(text) for text in ("cosine", "org/name", "https://wandb.ai/me/run", "tokens / s")]
    [False, False, False, False]
    """
    return _PATH.search(text) is not None


def is_here(text: str) -> bool:
    """Whether text names a file or folder of this machine, as seen from the current folder.

    For who gathers facts; what they say later must not depend on where that is read.
    """
    return "/" in text and len(text) < 256 and os.path.lexists(text)


def is_setting(name: str, value: object) -> bool:
    """Whether a card may repeat a setting: neither its name nor its value tells of a secret, a path or a private host.

    >>> [is_setting(*one) for one in (("lr", 1e-4), ("password", 7), ("run", "0a" * 20), ("revision", "0a" * 20))]
    [True, False, False, True]
    """
    if not is_sayable(name) or (names_secret(name) and not isinstance(value, bool)):
        return False
    if not isinstance(value, str):
        return isinstance(value, bool) or (type(value) in (int, float) and plain(value) is not None)
    return is_sayable(value) and not is_random(name, value) and not names_private_host(value)


def is_random(name: str, value: str) -> bool:
    """Whether a setting's value is characters that nobody chose, as keys are; a `revision` or `hash` is none."""
    return _RANDOM.search(value) is not None and not _COMMIT_NAME.fullmatch(name.lower())


def is_public_host(host: str) -> bool:
    """Whether a machine has a name that others can reach it by.

    >>> [is_public_host(host) for host in ("wandb.ai", "10.1.2.3", "git.corp", "localhost", "x.corp.internal")]
    [True, False, False, False, False]
    """
    name = host.lower().strip("[].")
    try:
        ipaddress.ip_address(name)
        return False
    except ValueError:
        return "." in name and not name.endswith(tuple(f".{ending}" for ending in _NO_PUBLIC_NAME))


def names_private_host(text: str) -> bool:
    """Whether text holds the address of a machine that only its own network knows."""
    return any(not is_public_host(link or address) for link, address in _HOST.findall(text))


def is_sayable(text: object, *, most: int = _MAX_TEXT) -> TypeGuard[str]:
    """Whether a card may repeat this text: not too long, no secret, no path, and not "None"."""
    return (
        isinstance(text, str)
        and 0 < len(text.strip()) <= len(text) <= most
        and text.strip().lower() not in ("none", "null")
        and not any("\ud800" <= character <= "\udfff" for character in text)
        and not is_secret(text)
        and not is_path(text)
    )


def is_public_link(text: object) -> TypeGuard[str]:
    """Whether text is a web address that others can reach, without a name, password or key in it.

    >>> [is_public_link(text) for text in ("https://x.org/a", "https://me:word@x.org", "https://10.1.2.3", "runs")]
    [True, False, False, False]
    """
    if not isinstance(text, str) or len(text) > 2000 or re.fullmatch(r"https?://[^\s\x00-\x1f\x7f]+", text) is None:
        return False
    try:
        address = urlsplit(text)
        return is_public_host(address.hostname or "") and "@" not in address.netloc and not is_secret(text)
    except ValueError:  # brackets that are no IPv6 address
        return False


def check(holds: bool, otherwise: str) -> None:
    """Refuse what no card may say.

    Raises:
        InvalidInput: It does not hold.
    """
    if not holds:
        raise InvalidInput(f"A card cannot say this: {otherwise}.", hint="Leave out what is not known.")


def check_text(what: str, *texts: str | None) -> None:
    """Refuse text that no card may repeat; None is what is not known.

    Raises:
        InvalidInput: A text may not be repeated. The error does not repeat it if it looks like a secret.
    """
    for text in texts:
        shown = "text that looks like a secret" if text and is_secret(text) else repr(text)[:80]
        check(text is None or is_sayable(text), f"{what} is {shown}")


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """The non-empty items, trimmed, each once, in the order they first came."""
    return tuple(dict.fromkeys(trimmed for item in items if (trimmed := item.strip())))
