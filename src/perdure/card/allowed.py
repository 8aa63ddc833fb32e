"""What a card may repeat: short text that is no secret and names no place on some disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TypeGuard
from urllib.parse import urlsplit

from perdure.errors import InvalidInput

_MAX_TEXT = 500  # characters; what is longer is data, and no fact about it
_PATH = re.compile(
    r"^[/~\\]|^\.{1,2}([/\\]|$)"
    r"|[=,;:'\"(\[{]~?/[\w.~-]|\s~?/[\w.~-]+(?:/|[\s,;]|$)"
    r"|[\s=,;:'\"(\[{](?:\.{1,2}[/\\]|~[\w.-]*/|\\\\\w)|(?<![A-Za-z0-9])(?:[A-Za-z]:[\\/](?!/)|file:)"
)
_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:hf|sk|gh[pousr]|github_pat|glpat|wandb|pypi)[_-][\w-]{16,}|A[KS]IA[0-9A-Z]{16}"
    r"|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,})|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s@:]*:[^/\s@]*@"
)
_SECRET_NAME = re.compile(
    r".*(secret|passw|credential|private_?key|api_?key|access_?key|auth(?!or)).*"
    r"|(?!(eos|bos|pad|sep|cls|unk|mask)_).*(?<![A-Za-z])token",
    re.IGNORECASE,
)


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


def is_secret(text: str) -> bool:
    """Whether text looks as if it held a token, a key or a password.

    >>> is_secret("hf_" + "a" * 30), is_secret("https://me:word@example.org"), is_secret("hf_transfer")
    (True, True, False)
    """
    return _SECRET.search(text) is not None


def names_secret(name: str) -> bool:
    """Whether a setting of this name holds a secret, whatever it looks like.

    >>> [name for name in ("hub_token", "api_key", "num_tokens", "pad_token_id") if names_secret(name)]
    ['hub_token', 'api_key']
    """
    return _SECRET_NAME.fullmatch(name) is not None


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
    """Whether text is a web address without a name or password in it.

    >>> [is_public_link(text) for text in ("https://x.org/a", "https://me:word@x.org", "ftp://x.org", "runs")]
    [True, False, False, False]
    """
    if not isinstance(text, str) or len(text) > 2000 or re.fullmatch(r"https?://[^\s\x00-\x1f\x7f]+", text) is None:
        return False
    try:
        address = urlsplit(text)
        return bool(address.hostname) and "@" not in address.netloc and not is_secret(text)
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
