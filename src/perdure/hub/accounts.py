"""Who may use a hub: users and their tokens.

Every call reads and writes the store's database, so that what the command line changes counts at the next request
of a server that runs.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import Final, Literal

from perdure.errors import AlreadyExists, InvalidInput, NotFound
from perdure.hub.db import Database
from perdure.hub.http import ApiError
from perdure.hub.paths import check_namespace

Role = Literal["read", "write", "admin"]

_MIN_TOKEN: Final = 8
MAX_TOKEN: Final = 512
_ID: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody with tokens; what is in the namespace of their name is theirs."""

    id: int
    name: str
    admin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token. `id` is the start of its digest: enough to name it, useless to whoever reads it.

    `created` and `expires` are seconds since 1970; `expires` is None when it never does.
    """

    id: str
    user: str
    role: str
    label: str
    created: float
    expires: float | None


def new_token() -> str:
    """A random token of 256 bits, with a prefix by which people and secret scanners recognise it."""
    # the client for JavaScript sends nothing that does not start with hf_
    return "hf_pdr_" + secrets.token_urlsafe(32)


def token_digest(token: str) -> bytes:
    """What is stored of a token.

    Nobody finds the token from it: ours have 256 random bits, which no list of guesses holds, so a slow hash or a salt
    would add nothing. That is not so for a short one of somebody's own choice (`check_token`).
    """
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def token_id(digest: bytes) -> str:
    """The id of the token with this digest."""
    return digest.hex()[:_ID]


def check_token(token: str) -> str:
    """A token somebody chose.

    Raises:
        InvalidInput: It could not travel in a header, or a few guesses would find it.
    """
    if not _MIN_TOKEN <= len(token) <= MAX_TOKEN or not all("!" <= c <= "~" for c in token):
        raise InvalidInput(
            f"A token must be {_MIN_TOKEN} to {MAX_TOKEN} printable ASCII characters without spaces.",
            hint="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return token


def check_account_name(name: str) -> str:
    """The name of a user or an organisation.

    Raises:
        InvalidInput: It cannot be a namespace.
    """
    try:
        return check_namespace(name)
    except ApiError as error:
        raise InvalidInput(f"{name!r} cannot be the name of a user or an organisation. {error.message}") from error


class Accounts:
    """The accounts in a store's database. Safe to use from any thread and beside a running server.

    Args:
        db: The opened database.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    # ── users ──

    def users(self) -> list[User]:
        """Everybody, by name."""
        return [_user(row) for row in self._db.rows("SELECT id, name, admin FROM users ORDER BY name")]

    def first_admin(self) -> User | None:
        """The administrator who was made first, or None in a new store."""
        rows = self._db.rows("SELECT id, name, admin FROM users WHERE admin ORDER BY id LIMIT 1")
        return _user(rows[0]) if rows else None

    def user(self, name: str) -> User | None:
        """The user of that name, whatever the case of its letters."""
        rows = self._db.rows("SELECT id, name, admin FROM users WHERE name = ?", name)
        return _user(rows[0]) if rows else None

    def require_user(self, name: str) -> User:
        """As `user`.

        Raises:
            NotFound: There is none.
        """
        user = self.user(name)
        if user is None:
            raise NotFound(f"There is no user {name!r}.", hint="perdure hub user list --dir DIR shows everybody.")
        return user

    def add_user_with_token(
        self, name: str, token: str, *, admin: bool, label: str, expires: float | None = None
    ) -> tuple[User, Token]:
        """Enter a user and a token that lets them do all that is theirs to do: both, or neither.

        Raises:
            InvalidInput: The name cannot be a namespace, or the token cannot be used.
            AlreadyExists: The name is taken, or the token is somebody else's.
        """
        check_account_name(name)
        digest = token_digest(check_token(token))
        with self._db.write() as db:
            user_id = _insert_user(db, name, admin)
            _insert_token(db, user_id, digest, role="admin" if admin else "write", label=label, expires=expires)
        user = self.require_user(name)
        return user, self.tokens(user)[0]

    def remove_user(self, name: str) -> User:
        """Remove a user with all their tokens and memberships; their repositories stay for the administrators.

        Raises:
            NotFound: There is none.
            InvalidInput: Nobody else is an administrator.
        """
        user = self.require_user(name)
        with self._db.write() as db:
            _require_other_admin(db, user)
            db.execute("DELETE FROM users WHERE id = ?", (user.id,))
        return user

    def set_admin(self, name: str, admin: bool) -> User:
        """Make a user an administrator, or no longer one: their tokens that could do everything then may write.

        Raises:
            NotFound: There is none.
            InvalidInput: Nobody else is an administrator.
        """
        user = self.require_user(name)
        with self._db.write() as db:
            if not admin:
                _require_other_admin(db, user)
                db.execute("UPDATE tokens SET role = 'write' WHERE role = 'admin' AND user_id = ?", (user.id,))
            db.execute("UPDATE users SET admin = ? WHERE id = ?", (admin, user.id))
        return self.require_user(name)

    # ── tokens ──

    def add_token(self, user: User, token: str, *, role: Role, label: str, expires: float | None = None) -> Token:
        """Let `user` in with a token, of which the digest alone is stored; one they had gets the new facts.

        Raises:
            InvalidInput: The token cannot be used, or it is `admin` and the user is no administrator.
            AlreadyExists: The token is somebody else's.
        """
        if role == "admin" and not user.admin:
            raise InvalidInput(
                f"{user.name!r} is no administrator, so their tokens cannot be.",
                hint="Use --role read or --role write; or first: perdure hub user set NAME --admin --dir DIR",
            )
        digest = token_digest(check_token(token))
        with self._db.write() as db:
            _insert_token(db, user.id, digest, role=role, label=label, expires=expires)
        return next(token for token in self.tokens(user) if token.id == token_id(digest))

    def tokens(self, user: User | None = None) -> list[Token]:
        """The tokens of a user, or of everybody; oldest first."""
        rows = self._db.rows(
            f"{_TOKEN} WHERE ?1 IS NULL OR users.id = ?1 ORDER BY tokens.created, digest", user.id if user else None
        )
        return [_token(row) for row in rows]

    def revoke_token(self, id: str) -> Token:
        """Let nobody in with a token any more.

        Args:
            id: The token's id.

        Raises:
            NotFound: There is no such token.
        """
        found = [token for token in self.tokens() if token.id == id]
        if not found:
            raise NotFound(
                f"There is no token with the id {id!r}.", hint="perdure hub token list --dir DIR shows all ids."
            )
        with self._db.write() as db:
            db.execute("DELETE FROM tokens WHERE substr(lower(hex(digest)), 1, ?) = ?", (_ID, id))
        return found[0]

    def with_id(self, id: str) -> list[tuple[bytes, Token, User]]:
        """The stored digest, the token and its user, for each valid token with that id: one, as good as always."""
        start = bytes.fromhex(id)
        rows = self._db.rows(f"{_TOKEN} WHERE digest BETWEEN ? AND ?", start, start + b"\xff" * (32 - len(start)))
        found: list[tuple[bytes, Token, User]] = []
        for row in rows:
            token = _token(row)
            user = self.user(token.user)
            if user is not None and (token.expires is None or token.expires > time.time()):
                found.append((bytes(row[0]), token, user))
        return found


def require_free(db: sqlite3.Connection, name: str) -> None:
    """Within a transaction: refuse a name that a user or an organisation has."""
    for table, what in (("users", "A user"), ("orgs", "An organisation")):
        for (taken,) in db.execute(f"SELECT name FROM {table} WHERE name = ?", (name,)):
            case = "" if taken == name else " (capital and small letters are the same in names)"
            raise AlreadyExists(
                f"{what} of the name {taken!r} exists already{case}.",
                hint="Choose another name. Who is an administrator: perdure hub user set NAME --admin --dir DIR",
            )


def _require_other_admin(db: sqlite3.Connection, user: User) -> None:
    if user.admin and not db.execute("SELECT 1 FROM users WHERE admin AND id != ?", (user.id,)).fetchone():
        raise InvalidInput(
            f"{user.name!r} is the last administrator and stays one.",
            hint="Make another one first: perdure hub user add NAME --admin --dir DIR (or user set, for one there is)",
        )


_TOKEN: Final = (
    "SELECT digest, users.name, role, label, tokens.created, expires FROM tokens JOIN users ON users.id = user_id"
)


def _insert_user(db: sqlite3.Connection, name: str, admin: bool) -> int:
    require_free(db, name)
    made = db.execute("INSERT INTO users (name, admin, created) VALUES (?, ?, ?)", (name, admin, time.time()))
    assert made.lastrowid is not None
    return made.lastrowid


def _insert_token(
    db: sqlite3.Connection, user_id: int, digest: bytes, *, role: Role, label: str, expires: float | None
) -> None:
    owner = db.execute("SELECT user_id FROM tokens WHERE digest = ?", (digest,)).fetchone()
    if owner is not None and owner[0] != user_id:
        raise AlreadyExists("This token is somebody else's; nothing was changed.", hint="Choose another one.")
    db.execute(
        "INSERT OR REPLACE INTO tokens (digest, user_id, role, label, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
        (digest, user_id, role, label, time.time(), expires),
    )


def _user(row: tuple[object, ...]) -> User:
    identity, name, admin = row
    assert isinstance(identity, int)
    return User(id=identity, name=str(name), admin=bool(admin))


def _token(row: tuple[object, ...]) -> Token:
    digest, user, role, label, created, expires = row
    assert isinstance(digest, bytes)
    assert isinstance(created, float)
    assert expires is None or isinstance(expires, float)
    return Token(
        id=token_id(digest), user=str(user), role=str(role), label=str(label), created=created, expires=expires
    )
