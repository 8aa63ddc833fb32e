"""Organisations: namespaces that several people share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from perdure.errors import NotFound
from perdure.hub.accounts import Role, User, check_account_name, require_free
from perdure.hub.db import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """A namespace that several people share; `members` maps their names to `read` or `write`."""

    name: str
    members: Mapping[str, str]


class Organizations:
    """The organisations in a store's database. Safe to use from any thread and beside a running server.

    Args:
        db: The opened database.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def all(self) -> list[Organization]:
        """All organisations, by name."""
        return [self.get(str(name)) for (name,) in self._db.rows("SELECT name FROM orgs ORDER BY name")]

    def get(self, name: str) -> Organization:
        """An organisation and its members.

        Raises:
            NotFound: There is none of that name.
        """
        rows = self._db.rows("SELECT name FROM orgs WHERE name = ?", name)
        if not rows:
            raise NotFound(
                f"There is no organisation {name!r}.", hint="perdure hub org list --dir DIR shows all of them."
            )
        members = self._db.rows(
            "SELECT users.name, role FROM members JOIN users ON users.id = user_id JOIN orgs ON orgs.id = org_id"
            " WHERE orgs.name = ? ORDER BY users.name",
            name,
        )
        return Organization(name=str(rows[0][0]), members={str(user): str(role) for user, role in members})

    def memberships(self, user: User) -> dict[str, str]:
        """Organisation → the user's role there."""
        rows = self._db.rows(
            "SELECT orgs.name, role FROM members JOIN orgs ON orgs.id = org_id WHERE user_id = ? ORDER BY orgs.name",
            user.id,
        )
        return {str(name): str(role) for name, role in rows}

    def add(self, name: str) -> Organization:
        """Enter an organisation without members.

        Raises:
            InvalidInput: The name cannot be a namespace.
            AlreadyExists: A user or an organisation has it.
        """
        check_account_name(name)
        with self._db.write() as db:
            require_free(db, name)
            db.execute("INSERT INTO orgs (name, created) VALUES (?, ?)", (name, time.time()))
        return self.get(name)

    def remove(self, name: str) -> Organization:
        """Remove an organisation; its repositories stay for the administrators.

        Raises:
            NotFound: There is none of that name.
        """
        organization = self.get(name)
        with self._db.write() as db:
            db.execute("DELETE FROM orgs WHERE name = ?", (name,))
        return organization

    def set_member(self, organization: str, user: User, role: Role | None) -> Organization:
        """Make `user` a member who may `read` or `write`, or with None no member.

        Raises:
            NotFound: There is no such organisation, or they were no member.
        """
        found = self.get(organization)
        if role is None and user.name not in found.members:
            raise NotFound(f"{user.name!r} is no member of {found.name!r}; nothing was changed.")
        with self._db.write() as db:
            member = (found.name, user.id)
            if role is None:
                db.execute(
                    "DELETE FROM members WHERE org_id = (SELECT id FROM orgs WHERE name = ?) AND user_id = ?", member
                )
            else:
                db.execute(
                    "INSERT OR REPLACE INTO members SELECT id, ?2, ?3 FROM orgs WHERE name = ?1", (*member, role)
                )
        return self.get(organization)
