"""`perdure promote`: the revision that was chosen becomes what everybody gets."""

from __future__ import annotations

import dataclasses
import json
import shlex

import click

from perdure import Promotion, promote
from perdure.cli.common import hub_options, human_bytes, json_option

_EXAMPLES = """\b
Examples:
  perdure revisions me/my-model --metric eval_loss          which one is best?
  perdure promote me/my-model@main-step-000000200 --tag v1.0
  perdure promote me/my-model@main-step-000000200 --dry-run
  perdure promote me/my-model@main-step-000000400 --tag v1.0 --force
  perdure promote me/my-model@v1.0 --to stable
"""


@click.command(epilog=_EXAMPLES)
@click.argument("revision", metavar="REPO@REV")
@click.option("--tag", help="An annotated tag for the commit. A tag does not move, unless with --force.")
@click.option("--to", default="main", show_default=True, help="The branch that becomes what REV is.")
@click.option("--force", is_flag=True, help="Move the tag if it is elsewhere; from where to where is told.")
@click.option("--training-state", is_flag=True, help="Copy what only resuming needs, too.")
@click.option("-m", "--message", help="The message of the commit and of the tag.")
@hub_options
@click.option(
    "--expected-head", metavar="COMMIT", help="Refuse where the branch is elsewhere: somebody else was there."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done; change nothing on the Hub.")
@json_option
def command(
    *,
    revision: str,
    tag: str | None,
    to: str,
    force: bool,
    training_state: bool,
    message: str | None,
    expected_head: str | None,
    endpoint: str | None,
    token: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the revision REV of REPO, a branch, tag or commit, what `main` is: one commit, and a tag at it.

    The Hub copies the weights itself: none are sent. What REV does not have is deleted from the branch, whose history
    keeps it. Where nothing differs no commit is made.
    """
    repo, _, chosen = revision.partition("@")
    if not chosen:
        raise click.UsageError(f"{revision} names no revision: write REPO@REV, for example {repo}@v1.0")
    outcome = promote(
        repo,
        chosen,
        tag=tag,
        to=to,
        force=force,
        training_state=training_state,
        message=message,
        expected_head=expected_head,
        endpoint=endpoint,
        token=token,
        dry_run=dry_run,
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(outcome), indent=2))
    else:
        _show(outcome, ["--endpoint", endpoint] if endpoint else [])


def _show(outcome: Promotion, where: list[str]) -> None:
    would = "would be " if outcome.dry_run else ""
    for mark, files in (("~", outcome.copied), ("-", outcome.deleted)):
        for path, size in files.items():
            click.echo(f"{mark} {path} ({human_bytes(size)})")
    if outcome.changed:
        click.echo(f"{outcome.to} of {outcome.repo} {would or 'is '}now what {outcome.revision} is: {outcome.url}")
    else:
        click.echo(f"{outcome.to} of {outcome.repo} is what {outcome.revision} is already: no new commit")
    if outcome.before is None:
        click.echo(f"The branch {outcome.to} {would or 'is '}new")
    elif outcome.changed and not outcome.dry_run:
        to = ["--to", outcome.to] if outcome.to != "main" else []
        back = shlex.join(["perdure", "promote", f"{outcome.repo}@{outcome.before}", *to, *where])
        click.echo(f"To go back: {back}", err=True)
    if outcome.tag is not None:
        at = outcome.commit[:12] if outcome.commit else "the new commit"
        moved = f" (moved from {outcome.tag_before[:12]})" if outcome.tag_before else ""
        click.echo(f"The tag {outcome.tag} {would or 'is '}at {at}{moved}")
