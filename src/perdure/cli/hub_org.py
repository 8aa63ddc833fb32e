"""`perdure hub org`: namespaces that several people share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perdure.cli.common import json_option
from perdure.cli.hub_store import opened, show_table, store_option

if TYPE_CHECKING:
    from perdure.hub.accounts import Role
    from perdure.hub.orgs import Organization

_EPILOG = """
\b
Examples:
  perdure hub org create lab --dir /srv/hub
  perdure hub org add lab ana --role write --dir /srv/hub     also changes the role of a member
  perdure hub org remove lab ana --dir /srv/hub
  perdure hub org list --dir /srv/hub
  perdure hub org delete lab --dir /srv/hub                   its repositories stay, for the administrators
"""


@click.group(epilog=_EPILOG)
def command() -> None:
    """Organisations of a hub: members read, or read and write, everything in the organisation's namespace."""


@command.command(epilog=_EPILOG)
@click.argument("name")
@store_option
@json_option
def create(name: str, folder: Path, as_json: bool) -> None:
    """Make an organisation without members."""
    from perdure.hub.orgs import Organizations

    with opened(folder) as db:
        inherited = db.count_repos(name)
        made = Organizations(db).add(name)
    if inherited and not as_json:
        click.echo(f"Warning: {inherited} repositories in the namespace {name!r} are the organisation's now.", err=True)
    _show(made, as_json=as_json)


@command.command(epilog=_EPILOG)
@click.argument("organization")
@click.argument("user")
@click.option(
    "--role",
    type=click.Choice(["read", "write"]),
    default="write",
    show_default=True,
    help="read: load what is in the namespace. write: change it, too.",
)
@store_option
@json_option
def add(organization: str, user: str, role: Role, folder: Path, as_json: bool) -> None:
    """Make USER a member, or change what they may do."""
    from perdure.hub.accounts import Accounts
    from perdure.hub.orgs import Organizations

    with opened(folder) as db:
        changed = Organizations(db).set_member(organization, Accounts(db).require_user(user), role)
    _show(changed, as_json=as_json)


@command.command(epilog=_EPILOG)
@click.argument("organization")
@click.argument("user")
@store_option
@json_option
def remove(organization: str, user: str, folder: Path, as_json: bool) -> None:
    """End USER's membership."""
    from perdure.hub.accounts import Accounts
    from perdure.hub.orgs import Organizations

    with opened(folder) as db:
        changed = Organizations(db).set_member(organization, Accounts(db).require_user(user), None)
    _show(changed, as_json=as_json)


@command.command(epilog=_EPILOG)
@click.argument("name")
@store_option
@json_option
def delete(name: str, folder: Path, as_json: bool) -> None:
    """Remove an organisation. Its repositories stay, for the administrators to move or delete."""
    from perdure.hub.orgs import Organizations

    with opened(folder) as db:
        gone = Organizations(db).remove(name)
        left = db.count_repos(gone.name)
    if as_json:
        click.echo(json.dumps({"removed": gone.name, "repositories_left": left}))
    else:
        click.echo(f"Removed {gone.name!r}; {left} repositories stay in its namespace.")


@command.command("list", epilog=_EPILOG)
@store_option
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """List organisations with their members."""
    from perdure.hub.orgs import Organizations

    with opened(folder) as db:
        found = Organizations(db).all()
    if as_json:
        click.echo(json.dumps([{"org": org.name, "members": dict(org.members)} for org in found]))
    else:
        show_table([("ORGANISATION", "MEMBERS"), *((org.name, _members(org)) for org in found)])


def _show(org: Organization, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"org": org.name, "members": dict(org.members)}))
    else:
        click.echo(f"{org.name}: {_members(org)}")


def _members(org: Organization) -> str:
    return ", ".join(f"{user} ({role})" for user, role in org.members.items()) or "no members"
