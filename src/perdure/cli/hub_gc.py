"""`perdure hub gc`: remove what nothing refers to from a hub's store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from perdure.cli.common import human_bytes, json_option
from perdure.cli.hub_store import opened, store_option

_EPILOG = """
\b
Examples:
  perdure hub gc --dir /srv/hub --dry-run
  perdure hub gc --dir /srv/hub --grace 0      also what was uploaded a moment ago and never committed
"""


@click.command(epilog=_EPILOG)
@store_option
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Keep what was uploaded, or built on, within so many hours: an upload may still be under way.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option(
    "--remove-orphans",
    is_flag=True,
    help="Also remove repositories that the database does not know, as a kill leaves them, instead of refusing: with a "
    "database older than they are, it would be all that came since.",
)
@json_option
def command(folder: Path, grace: float, dry_run: bool, remove_orphans: bool, as_json: bool) -> None:
    """Remove large files, xorbs and git objects that nothing refers to: of deleted repositories, squashed history,
    uploads that were never committed.

    Stop the hub first; a store that is in use is refused.
    """
    from perdure.hub.gc import collect

    with opened(folder, read_only=dry_run) as db:
        collected = collect(folder, db, grace=grace * 3600, dry_run=dry_run, remove_orphans=remove_orphans)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **asdict(collected)}))
        return
    verb = "Would remove" if dry_run else "Removed"
    click.echo(
        f"{verb} {len(collected.blobs)} large files, {len(collected.xorbs)} xorbs, {collected.objects} git objects and "
        f"{len(collected.repositories)} orphaned repositories: {human_bytes(collected.size)}."
    )
