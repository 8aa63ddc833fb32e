"""`perdure pull`: download a revision of a model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from perdure import pull
from perdure.cli.common import hub_options, human_bytes, json_option

_EXAMPLES = """\b
Examples:
  perdure pull me/my-model out
  perdure pull me/my-model@v1.0 out
  perdure pull me/my-model@main-step-000000200 runs/b/checkpoint-200
  perdure pull me/my-model@main/last-checkpoint runs/b/checkpoint-200
  perdure pull me/my-model out --endpoint http://localhost:7999
"""


@click.command(epilog=_EXAMPLES)
@click.argument("repo", metavar="REPO[@REV[/FOLDER]]")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--path-in-repo", default="", metavar="FOLDER", help="A folder of the repository. [default: its root]")
@hub_options
@click.option(
    "--verify/--no-verify",
    default=True,
    help="Compare the whole with its manifest; --no-verify takes a revision changed on the Hub as it is.",
)
@json_option
def command(
    *,
    repo: str,
    folder: Path,
    path_in_repo: str,
    endpoint: str | None,
    token: str | None,
    verify: bool,
    as_json: bool,
) -> None:
    """Download the revision REV (a branch, tag or commit; by default main) of REPO, or a folder of it, into DIR.

    Each file is verified, and DIR is put in place at once. What is interrupted is kept beside DIR: the same command
    goes on with it. A DIR that is there already is replaced only if perdure saved or pulled it.
    """
    pulled = pull(repo, folder, path_in_repo=path_in_repo, endpoint=endpoint, token=token, verify=verify)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(pulled), indent=2, default=str))
        return
    where = "/".join(filter(None, [f"{pulled.repo}@{pulled.revision}", pulled.path_in_repo]))
    what = f"{where} (commit {pulled.commit[:12]})"
    if pulled.changed:
        received = human_bytes(pulled.bytes_received)
        click.echo(f"Pulled {what}: {len(pulled.files)} files, {human_bytes(pulled.nbytes)} ({received} downloaded)")
    else:
        click.echo(f"{pulled.path} is {what} already, whole: nothing was downloaded")
    click.echo(str(pulled.path))
