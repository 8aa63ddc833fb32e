"""`perdure push`: publish a saved model."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import click

from perdure import PushPlan, Receipt, publish
from perdure.cli.common import hub_options, human_bytes, json_option

_EXAMPLES = """\b
Examples:
  perdure push out me/my-model
  perdure push out me/my-model --tag v1.0 --message "Trained on GSM8K"
  perdure push out me/my-model --dry-run
  perdure push runs/a/checkpoint-200 me/my-model --revision step-200 --training-state
  perdure push runs/a/checkpoint-200 me/my-model --path-in-repo last-checkpoint --training-state
  perdure push out my-model --endpoint http://localhost:7999
"""


@click.command(epilog=_EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repo")
@click.option("--tag", help="Tag the commit. A tag never moves: if it exists elsewhere, nothing is sent.")
@click.option("--revision", default="main", show_default=True, help="The branch; created if missing.")
@click.option("--path-in-repo", default="", metavar="FOLDER", help="A folder of the repository. [default: its root]")
@click.option(
    "--private/--public",
    default=None,
    help="Who may read the repository. A new one is private by default; --public makes an existing one public too, "
    "after the push, and asks first on a terminal.",
)
@click.option("-m", "--message", help="The commit's message.")
@hub_options
@click.option("--training-state", is_flag=True, help="Of a checkpoint, also send what only resuming needs.")
@click.option("--allow", multiple=True, metavar="FINDING", help="Send it although the scan for secrets found this.")
@click.option(
    "--expected-head", metavar="COMMIT", help="Refuse where the branch is elsewhere: somebody else was there."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be sent and deleted; change nothing on the Hub.")
@json_option
def command(
    *,
    folder: Path,
    repo: str,
    tag: str | None,
    revision: str,
    path_in_repo: str,
    private: bool | None,
    message: str | None,
    endpoint: str | None,
    token: str | None,
    training_state: bool,
    allow: tuple[str, ...],
    expected_head: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the model in FOLDER to the repository REPO as one commit.

    REPO is NAMESPACE/NAME, or NAME for one of your own; it is created, private, if there is none. Only what belongs to
    the model goes out: no checkpoints, logs or optimizer states. A damaged folder is refused, and when nothing has
    changed no commit is made.
    """
    if private is False and not dry_run and sys.stdin.isatty():
        _ask(f"Everybody will be able to read {repo}, with all of its history. Go on?")
    outcome = publish(
        folder,
        repo,
        revision=revision,
        path_in_repo=path_in_repo,
        tag=tag,
        private=private,
        message=message,
        token=token,
        endpoint=endpoint,
        training_state=training_state,
        allow=allow,
        expected_head=expected_head,
        dry_run=dry_run,
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(outcome), indent=2))
    elif isinstance(outcome, PushPlan):
        _show_plan(outcome)
    else:
        _show(outcome)
    if outcome.left_out:
        click.echo(f"Not part of the model, so not published: {', '.join(outcome.left_out)}", err=True)


def _ask(question: str) -> None:
    if not click.confirm(question, err=True):
        click.echo("Nothing was sent.", err=True)
        sys.exit(1)


def _show_plan(plan: PushPlan) -> None:
    where = f"{plan.repo} ({'private' if plan.private else 'public'}, {plan.revision})"
    also = [
        "The repository would be created." if plan.creates else "",
        f"The branch {plan.revision} would be created." if plan.creates_branch and not plan.creates else "",
        "The repository would be made public." if plan.makes_public else "",
        f"The tag {plan.tag} would be at {'the commit that it has' if plan.empty else 'the new commit'}."
        if plan.tag else "",
    ]  # fmt: skip
    _show_changes(plan, where)
    for line in filter(None, also):
        click.echo(line)


def _show_changes(plan: PushPlan, where: str) -> None:
    if plan.empty:
        click.echo(f"{where} has all of this already: there would be no new commit")
        return
    marks = (("+", plan.add), ("~", plan.change), ("-", plan.delete), ("=", plan.keep))
    for mark, files in marks:
        for path, size in files.items():
            click.echo(f"{mark} {human_bytes(size):>10}  {path}")
    counts = (f"{len(plan.add)} added", f"{len(plan.change)} changed", f"{len(plan.delete)} deleted",
              f"{len(plan.keep)} kept")  # fmt: skip
    click.echo(f"{', '.join(counts)}; {human_bytes(plan.nbytes)} to send to {where}. Nothing was sent.")


def _show(receipt: Receipt) -> None:
    visibility = "private" if receipt.private else "public"
    tagged = f", tagged {receipt.tag}" if receipt.tag else ""
    where = "/".join(filter(None, [receipt.revision, receipt.path_in_repo]))
    if receipt.changed:
        click.echo(
            f"Published {len(receipt.files)} files ({human_bytes(receipt.bytes_sent)}) to {receipt.repo} "
            f"({visibility}, {where}{tagged})"
        )
    else:
        click.echo(f"{receipt.repo} ({visibility}, {where}{tagged}) has all of this already: no new commit")
    if receipt.created_branch and not receipt.created:
        click.echo(f"The branch {receipt.revision} is new")
    if receipt.made_public:
        click.echo(f"{receipt.repo} was private, and is now public")
    if receipt.deleted:
        click.echo(f"Deleted there, as files of an earlier save: {', '.join(receipt.deleted)}")
    click.echo(receipt.commit_url)
