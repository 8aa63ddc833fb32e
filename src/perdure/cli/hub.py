"""`perdure hub`: look after a hub's store, whether a server runs on it or not."""

from __future__ import annotations

import click

from perdure.cli.common import LazyGroup

# subcommand → one line of help; `perdure.cli.hub_<name>` holds its `command`
COMMANDS = {
    "fsck": "Is everything in the store what it was?",
    "gc": "Remove what nothing refers to.",
    "org": "Organisations: namespaces that several people share.",
    "token": "Tokens: create, list, revoke.",
    "user": "Users: add, list, make administrators, remove.",
}

_EPILOG = """
\b
Examples:
  perdure hub user add ana --dir /srv/hub                          a user, and their token, shown once
  perdure hub token create ana --role read --dir /srv/hub          one more token, for a machine that only loads
  perdure hub org create lab --dir /srv/hub                        a namespace to share
  perdure hub org add lab ana --role write --dir /srv/hub
  perdure hub fsck --dir /srv/hub                                  read everything and compare
"""


@click.group(cls=LazyGroup, modules="perdure.cli.hub_", summaries=COMMANDS, epilog=_EPILOG)
def command() -> None:
    """Look after the store of an embedded hub.

    All but gc works while a server runs on the store, and counts at its next request.
    """
