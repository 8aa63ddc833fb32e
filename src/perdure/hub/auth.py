"""Who is calling, what they may do, and links that carry their own permission."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from perdure.errors import InvalidInput
from perdure.hub.db import Database, Repo, User
from perdure.hub.http import ApiError

_MIN_TOKEN: Final = 8
_MAX_TOKEN: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A user as one of their tokens shows them; `role` is the token's: `read` or `write`."""

    user: User
    role: str
    label: str

    @property
    def name(self) -> str:
        """The user's name."""
        return self.user.name


def new_token() -> str:
    """A random token of 256 bits, with a prefix by which people and secret scanners recognise it."""
    return "pdr_" + secrets.token_urlsafe(32)


def token_digest(token: str) -> bytes:
    """What is stored of a token. Tokens are long random strings, so a plain sha256 cannot be searched backwards."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def check_token(token: str) -> str:
    """A token somebody chose.

    Raises:
        InvalidInput: It could not travel in a header, or a few guesses would find it.
    """
    if not _MIN_TOKEN <= len(token) <= _MAX_TOKEN or not all("!" <= c <= "~" for c in token):
        raise InvalidInput(
            f"A token must be {_MIN_TOKEN} to {_MAX_TOKEN} printable ASCII characters without spaces.",
            hint="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return token


def authenticate(db: Database, authorization: str | None) -> Caller | None:
    """The caller behind an `Authorization` header (Bearer, or Basic with the token as password); None without one.

    Raises:
        ApiError: 401, when the header names nobody.
    """
    if authorization is None:
        return None
    scheme, _, credentials = authorization.strip().partition(" ")
    token = credentials.strip()
    if scheme.lower() == "basic":
        try:
            token = base64.b64decode(token, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            token = ""
    elif scheme.lower() != "bearer":
        token = ""
    digest = token_digest(token)
    found = db.token(digest) if 0 < len(token) <= _MAX_TOKEN else None
    if found is None or not hmac.compare_digest(found[0], digest):
        # clients tell a wrong token from a missing repository by exactly this sentence
        raise ApiError(401, "Invalid credentials in Authorization header", headers={"WWW-Authenticate": "Bearer"})
    _, role, label, user = found
    return Caller(user=user, role=role, label=label)


def may_read(caller: Caller | None, repo: Repo) -> bool:
    """Whether `caller` (None: somebody without a token) may see `repo` and download from it."""
    return not repo.private or (caller is not None and owns(caller, repo.namespace))


def may_write(caller: Caller | None, repo: Repo) -> bool:
    """Whether `caller` may change `repo`; a token with the role `read` may not, whoever's it is."""
    return caller is not None and caller.role != "read" and owns(caller, repo.namespace)


def owns(caller: Caller, namespace: str) -> bool:
    """Whether everything in `namespace` is the caller's: it is their own, or they are an administrator."""
    return caller.user.admin or caller.name.lower() == namespace.lower()


class Signer:
    """Makes and checks tokens that say what they permit, to whom and until when, and need no table.

    Clients send no Authorization with uploads to links they were given, so those links sign themselves.

    >>> signer = Signer(b"key")
    >>> signer.open(signer.sign("put", 60, oid="ab"), "put")["oid"]
    'ab'
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, purpose: str, seconds: float, **claims: str | int) -> str:
        """A URL-safe token for `purpose` that expires in `seconds`."""
        payload = json.dumps({**claims, "for": purpose, "exp": int(time.time() + seconds)}).encode()
        return f"{_encode(payload)}.{_encode(self._mac(payload))}"

    def open(self, token: str, purpose: str) -> dict[str, Any]:
        """What a token of ours says.

        Raises:
            ApiError: 403, when it is forged, expired or for something else.
        """
        body, _, mac = token.partition(".")
        try:
            payload, given = _decode(body), _decode(mac)
        except (ValueError, binascii.Error):
            payload, given = b"", b""
        if not hmac.compare_digest(self._mac(payload), given):
            raise ApiError(403, "This link or token was not made by this hub.")
        claims: dict[str, Any] = json.loads(payload)
        if claims["for"] != purpose:
            raise ApiError(403, "This link or token is for something else.")
        if claims["exp"] < time.time():
            raise ApiError(403, "This link or token has expired; ask for a new one.")
        return claims

    def _mac(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
