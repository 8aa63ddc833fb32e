"""`perdure hub user`: who may use a hub."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

import click

from perdure.cli.common import json_option
from perdure.cli.hub_store import expires_option, opened, show_table, show_token, store_option, token_option

_EPILOG = """
\b
Examples:
  perdure hub user add ana --dir /srv/hub
  pass show hub/ben | perdure hub user add ben --token - --dir /srv/hub
  perdure hub user list --dir /srv/hub --json
  perdure hub user set ana --admin --dir /srv/hub     an administrator; --no-admin: no longer one
  perdure hub user remove ana --dir /srv/hub          their tokens end at once, their repositories stay
"""


@click.group(epilog=_EPILOG)
def command() -> None:
    """Users of a hub. What is in the namespace of their name is theirs."""


@command.command(epilog=_EPILOG)
@click.argument("name")
@click.option("--admin", is_flag=True, help="May do everything in all namespaces.")
@token_option
@expires_option
@store_option
@json_option
def add(  # noqa: PLR0917 (click passes them by name)
    name: str, admin: bool, token: str | None, expires: float | None, folder: Path, as_json: bool
) -> None:
    """Add a user with one token, which may write (an administrator's may do everything).

    The token is shown once; the store keeps its digest alone.
    """
    from perdure.hub.accounts import Accounts, check_account_name, check_token, new_token

    check_account_name(name)
    made = check_token(token) if token is not None else new_token()
    with opened(folder) as db:
        accounts = Accounts(db)
        inherited = db.count_repos(name)
        user, entered = accounts.add_user_with_token(name, made, admin=admin, label="first token", expires=expires)
    if as_json:
        shown = {"user": user.name, "admin": admin, "role": entered.role, "id": entered.id, "expires": expires}
        click.echo(json.dumps({**shown, "token": made if token is None else None}))
        return
    click.echo(f"Added the {'administrator' if admin else 'user'} {user.name!r}.", err=True)
    if inherited:
        click.echo(f"Warning: {inherited} repositories in the namespace {name!r} are theirs now.", err=True)
    show_token(token, made)


@command.command("list", epilog=_EPILOG)
@store_option
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """List users, whether they are administrators, how many tokens they have, and their organisations."""
    from perdure.hub.accounts import Accounts
    from perdure.hub.orgs import Organizations

    with opened(folder) as db:
        accounts, orgs = Accounts(db), Organizations(db)
        found = [
            (user, len(accounts.tokens(user)), db.count_repos(user.name), orgs.memberships(user))
            for user in accounts.users()
        ]
    if as_json:
        keys = ("user", "admin", "tokens", "repositories", "orgs")
        click.echo(json.dumps([dict(zip(keys, (u.name, u.admin, *facts), strict=True)) for u, *facts in found]))
        return
    rows: list[tuple[str, ...]] = [("USER", "ADMIN", "TOKENS", "REPOSITORIES", "ORGANISATIONS")]
    for user, tokens, repos, orgs_of in found:
        rows.append((user.name, "yes" if user.admin else "no", str(tokens), str(repos), ", ".join(orgs_of) or "-"))
    show_table(rows)


@command.command("set", epilog=_EPILOG)
@click.argument("name")
@click.option("--admin/--no-admin", required=True, help="May do everything in all namespaces, or no longer.")
@store_option
@json_option
def set_(name: str, admin: bool, folder: Path, as_json: bool) -> None:
    """Make a user an administrator, or no longer one.

    The tokens of a new administrator do what they did: create one with --role admin for the rest. Those of somebody
    who is none any more may write what is theirs.
    """
    from perdure.hub.accounts import Accounts

    with opened(folder) as db:
        user = Accounts(db).set_admin(name, admin)
    if as_json:
        click.echo(json.dumps({"user": user.name, "admin": user.admin}))
    elif admin:
        click.echo(f"{user.name!r} is an administrator. A token that may do everything:")
        click.echo(f"  perdure hub token create {user.name} --role admin --dir {quote(str(folder))}")
    else:
        click.echo(f"{user.name!r} is no administrator. Their tokens may do what is theirs.")


@command.command(epilog=_EPILOG)
@click.argument("name")
@store_option
@json_option
def remove(name: str, folder: Path, as_json: bool) -> None:
    """Remove a user with all their tokens. Their repositories stay, for the administrators to move or delete."""
    from perdure.hub.accounts import Accounts

    with opened(folder) as db:
        accounts = Accounts(db)
        tokens = len(accounts.tokens(accounts.require_user(name)))
        user = accounts.remove_user(name)
        left = db.count_repos(user.name)
    if as_json:
        click.echo(json.dumps({"removed": user.name, "tokens_revoked": tokens, "repositories_left": left}))
    else:
        click.echo(f"Removed {user.name!r} and {tokens} tokens; {left} repositories stay in their namespace.")
