"""`perdure hub fsck`: is everything in a hub's store what it was?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from shlex import quote

import click

from perdure.cli.common import human_bytes, json_option
from perdure.cli.hub_store import opened, store_option

_EPILOG = """
\b
Examples:
  perdure hub fsck --dir /srv/hub
  perdure hub fsck --dir /srv/hub --json | jq .damage
  perdure hub fsck --dir /srv/hub --quarantine       then push again what is named
"""


@click.command(epilog=_EPILOG)
@store_option
@click.option(
    "--quarantine",
    is_flag=True,
    help="Move damaged large files and xorbs to the folder quarantine of the store. The next push of the same file "
    "mends it; before, clients hear that the hub has it, and send nothing. Stop the hub first.",
)
@json_option
def command(folder: Path, quarantine: bool, as_json: bool) -> None:
    """Read everything in a hub's store and compare it with its name, its digest and what refers to it.

    Every large file's sha256, every xorb's hash, every git object and ref, and that each large file a commit refers
    to is there. Without --quarantine it changes nothing, and may run while the hub does. Exit code 1 when something is
    damaged or missing.
    """
    from perdure.hub.fsck import check_store

    with opened(folder, read_only=not quarantine) as db:
        report = check_store(folder, db, quarantine=quarantine)
    if as_json:
        click.echo(json.dumps({"ok": not report.damage, **asdict(report)}))
    else:
        for damage in report.damage:
            click.echo(f"{damage.where}: {damage.what}")
        click.echo(
            f"Checked {report.repositories} repositories with {report.objects} git objects, {report.blobs} large files "
            f"({human_bytes(report.blob_bytes)}) and {report.xorbs} xorbs: {len(report.damage)} found wrong.",
            err=True,
        )
        if report.quarantined:
            click.echo(f"Moved {len(report.quarantined)} damaged files to {folder / 'quarantine'}.", err=True)
            click.echo("  Push them again from a copy, or restore them from a backup.", err=True)
        elif report.damage:
            click.echo(f"  {_advice(folder)}", err=True)
    sys.exit(1 if report.damage else 0)


def _advice(folder: Path) -> str:
    return (
        "Restore what is named from a backup. Or, of large files and xorbs, stop the hub and type\n"
        f"    perdure hub fsck --dir {quote(str(folder))} --quarantine\n"
        "  and push them again from a copy."
    )
