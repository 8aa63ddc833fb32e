"""`perdure hub token`: what lets people and machines into a hub."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perdure.cli.common import json_option
from perdure.cli.hub_store import day, expires_option, opened, show_table, show_token, store_option, token_option

if TYPE_CHECKING:
    from perdure.hub.accounts import Role

_EPILOG = """
\b
Examples:
  perdure hub token create ana --role read --expires 90d --label "training node" --dir /srv/hub
  perdure hub token list --dir /srv/hub
  perdure hub token revoke 3f1c09a2b7de --dir /srv/hub
"""


@click.group(epilog=_EPILOG)
def command() -> None:
    """Tokens of a hub's users. A store keeps their digests alone: what is lost is made anew."""


@command.command(epilog=_EPILOG)
@click.argument("user")
@click.option(
    "--role",
    type=click.Choice(["read", "write", "admin"]),
    default="write",
    show_default=True,
    help="read: load what the user may load. write: change what is theirs, too. admin: everything, for administrators.",
)
@click.option("--label", default="token", show_default=True, help="What it is for; shown in lists.")
@token_option
@expires_option
@store_option
@json_option
def create(  # noqa: PLR0917 (click passes them by name)
    user: str, role: Role, label: str, token: str | None, expires: float | None, folder: Path, as_json: bool
) -> None:
    """Give USER another token. It is shown once."""
    from perdure.hub.accounts import Accounts, check_token, new_token

    made = check_token(token) if token is not None else new_token()
    with opened(folder) as db:
        accounts = Accounts(db)
        entered = accounts.add_token(accounts.require_user(user), made, role=role, label=label, expires=expires)
    if as_json:
        click.echo(json.dumps({**asdict(entered), "token": made if token is None else None}))
        return
    click.echo(f"{entered.user}: token {entered.id} may {role}, expires: {day(expires)}.", err=True)
    show_token(token, made)


@command.command("list", epilog=_EPILOG)
@click.argument("user", required=False)
@store_option
@json_option
def list_(user: str | None, folder: Path, as_json: bool) -> None:
    """List the tokens of USER, or of everybody: ids, never the tokens themselves."""
    from perdure.hub.accounts import Accounts

    with opened(folder) as db:
        accounts = Accounts(db)
        tokens = accounts.tokens(accounts.require_user(user) if user else None)
    if as_json:
        click.echo(json.dumps([asdict(token) for token in tokens]))
        return
    rows: list[tuple[str, ...]] = [("ID", "USER", "ROLE", "CREATED", "EXPIRES", "LABEL")]
    rows += [(t.id, t.user, t.role, day(t.created), day(t.expires), t.label) for t in tokens]
    show_table(rows)


@command.command(epilog=_EPILOG)
@click.argument("id")
@store_option
@json_option
def revoke(id: str, folder: Path, as_json: bool) -> None:
    """End the token with that ID (see `perdure hub token list`), at once."""
    from perdure.hub.accounts import Accounts

    with opened(folder) as db:
        token = Accounts(db).revoke_token(id)
    if as_json:
        click.echo(json.dumps({"revoked": token.id, "user": token.user}))
    else:
        click.echo(f"Revoked {token.id} of {token.user} ({token.label}).")
