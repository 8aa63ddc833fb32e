"""Who is calling, what they may do, and links that carry their own permission."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perdure.hub.accounts import MAX_TOKEN, Accounts, Token, User, token_digest, token_id
from perdure.hub.db import Database, Repo
from perdure.hub.http import ApiError
from perdure.hub.orgs import Organizations


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A user as one of their tokens shows them; `role` is the token's: `read`, `write` or `admin`, `token` its id.

    `orgs` maps the organisations they are a member of to what they may do there.
    """

    user: User
    role: str
    label: str
    token: str
    orgs: Mapping[str, str]

    @property
    def name(self) -> str:
        """The user's name."""
        return self.user.name

    @property
    def administers(self) -> bool:
        """Whether everything is theirs to do: an administrator, with a token that says so."""
        return self.user.admin and self.role == "admin"

    def role_in(self, namespace: str) -> str | None:
        """`write` in one's own namespace, what the organisation says in its, None elsewhere."""
        if self.administers or self.name.lower() == namespace.lower():
            return "write"
        return next((role for name, role in self.orgs.items() if name.lower() == namespace.lower()), None)


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
    caller = find_caller(db, token_digest(token)) if 0 < len(token) <= MAX_TOKEN else None
    if caller is None:
        # clients tell a wrong token from a missing repository by exactly this sentence
        raise ApiError(401, "Invalid credentials in Authorization header", headers={"WWW-Authenticate": "Bearer"})
    return caller


def find_caller(db: Database, digest: bytes) -> Caller | None:
    """The caller whose token has this digest; None when it is unknown, revoked or expired.

    The database is asked for the id alone, which is no secret. How long it takes to compare the rest says nothing.
    """
    for stored, token, user in Accounts(db).with_id(token_id(digest)):
        if hmac.compare_digest(stored, digest):
            return _caller(db, token, user)
    return None


def find_caller_by_id(db: Database, token: str) -> Caller | None:
    """The caller whose token has this id; None when it was revoked or has expired."""
    found = Accounts(db).with_id(token)
    return _caller(db, *found[0][1:]) if len(found) == 1 else None


def _caller(db: Database, token: Token, user: User) -> Caller:
    return Caller(
        user=user, role=token.role, label=token.label, token=token.id, orgs=Organizations(db).memberships(user)
    )


def may_read(caller: Caller | None, repo: Repo) -> bool:
    """Whether `caller` (None: somebody without a token) may see `repo`."""
    return not repo.private or (caller is not None and caller.role_in(repo.namespace) is not None)


def may_download(caller: Caller | None, repo: Repo) -> bool:
    """Whether `caller`, who may see `repo`, may also have its files: what `gated` is about."""
    if not repo.gated:
        return True
    return caller is not None and (repo.gated == "auto" or caller.role_in(repo.namespace) is not None)


def may_write(caller: Caller | None, repo: Repo) -> bool:
    """Whether `caller` may change `repo`."""
    return caller is not None and may_write_in(caller, repo.namespace)


def may_write_in(caller: Caller, namespace: str) -> bool:
    """Whether `caller` may make and change repositories in `namespace`; with a token to read, nobody may."""
    return caller.role != "read" and caller.role_in(namespace) == "write"


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
