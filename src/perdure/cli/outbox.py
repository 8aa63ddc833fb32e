"""`perdure outbox`: the pushes of a run that are still to be done, and what came of the others."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from perdure import Job, Outbox
from perdure.cli.common import did_you_mean, human_bytes, json_option
from perdure.errors import InvalidInput, PerdureError

_EXAMPLES = """\b
Examples:
  perdure outbox runs/a                          what waits, what is done, what failed and why
  perdure outbox drain runs/a --timeout 600      push what waits
  perdure outbox retry 3f2a9c1d runs/a           push a job that failed once more
  perdure outbox retry all runs/a                all that failed: the token had expired
  perdure outbox cancel 3f2a9c1d runs/a          give it up, and free its disk
"""


class _ListsByDefault(click.Group):
    """A group that takes what is none of its commands for the run that is to be listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing or (args and args[0] in (*self.commands, *ctx.help_option_names)):
            return super().parse_args(ctx, args)
        if args and not args[0].startswith("-") and not Path(args[0]).exists():
            ctx.fail(f"{args[0]!r} is neither a run's folder nor a command.{did_you_mean(args[0], self.commands)}")
        return super().parse_args(ctx, ["list", *args])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [*super().shell_complete(ctx, incomplete), CompletionItem(incomplete, type="dir")]


def _run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    kind = click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True)
    return click.argument("run", type=kind, default=".")(command)


def _job_argument(*states: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The id of a job; a shell is offered those of the current folder's run that are in one of these states."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            jobs = Outbox(ctx.params.get("run") or ".").jobs()
        except PerdureError:
            return []
        ids = [(job.id[:8], f"{job.state}: {job.repo}@{job.revision}") for job in jobs if job.state in states]
        return [CompletionItem(job, help=what) for job, what in ids if job.startswith(incomplete)]

    return click.argument("job", shell_complete=complete)


@click.group(cls=_ListsByDefault, epilog=_EXAMPLES)
def command() -> None:
    """Look after the pushes of a run that were queued, in the background or because the Hub was away.

    A job holds on to its files until it is done or cancelled. RUN is the run's folder, by default the current one.
    """


@command.command("list")
@_run_argument
@json_option
def list_jobs(run: Path, as_json: bool) -> None:
    """List the jobs in a RUN's outbox: state, tries, error. `perdure outbox RUN` is short for it."""
    _show(Outbox(run).jobs(), run, as_json=as_json)


@command.command()
@_run_argument
@click.option(
    "--timeout", type=click.FloatRange(min=0), help="Seconds to try, at the most. [default: until all is done]"
)
@click.option("--token", help="A token of the Hub. [default: HF_TOKEN, or what `hf auth login` stored]")
@json_option
def drain(run: Path, timeout: float | None, token: str | None, as_json: bool) -> None:
    """Push what waits in a RUN's outbox.

    Exits with 3 if jobs are left when the time is over, and with 1 if one failed for good.
    """
    box = Outbox(run, token=token)
    waiting = {job.id for job in box.jobs() if job.pending}
    left = box.drain(timeout)
    tried = [job for job in box.jobs() if job.id in waiting]
    _show(tried, run, as_json=as_json)
    if left:
        click.echo(f"{len(left)} of {len(tried)} jobs are left; the next drain, or the next run, goes on.", err=True)
    sys.exit(3 if left else 1 if any(job.state == "failed" for job in tried) else 0)


@command.command()
@_job_argument("failed")
@_run_argument
@click.option("--allow", multiple=True, metavar="FINDING", help="Send it although the scan for secrets found this.")
@json_option
def retry(job: str, run: Path, allow: tuple[str, ...], as_json: bool) -> None:
    """Queue a JOB that failed once more, or `all` that did; `perdure outbox drain` pushes them.

    One that is named goes on top of whatever its branch holds by now. Of `all`, those to whose branch somebody else
    committed will fail once more. One that is older than what was pushed to its branch since is left as it is.
    """
    box = Outbox(run)
    if job == "all":
        failed = [one.id for one in box.jobs() if one.state == "failed"]
        queued = []
        for one in failed:
            try:
                queued.append(box.retry(one, allow=allow, overwrite=False))
            except InvalidInput as error:  # a later one was pushed there since: the others have their turn all the same
                click.echo(f"{error.message} {error.hint}", err=True)
    else:
        queued = [box.retry(job, allow=allow)]
    _tell("Queued", queued, as_json=as_json)
    if queued:
        click.echo(f"Push with: {shlex.join(['perdure', 'outbox', 'drain', str(run)])}", err=True)
    else:
        click.echo(f"No push in the outbox of {run} has failed.", err=True)


@command.command()
@_job_argument("queued", "failed")
@_run_argument
@json_option
def cancel(job: str, run: Path, as_json: bool) -> None:
    """Give up a JOB that waits or failed, and let go of its files: it cannot be queued again."""
    _tell("Cancelled", [Outbox(run).cancel(job)], as_json=as_json)


def _tell(what: str, jobs: Sequence[Job], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([job.as_document() for job in jobs], indent=2))
        return
    for job in jobs:
        click.echo(f"{what} {job.id[:8]}: {job.folder} to {job.repo} ({job.revision})")


def _show(jobs: Sequence[Job], run: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([job.as_document() for job in jobs], indent=2))
        return
    if not jobs:
        click.echo(f"Nothing waits in the outbox of {run}.", err=True)
        return
    rows = [("JOB", "STATE", "TRIES", "SIZE", "STEP", "TO", "FROM"), *map(_row, jobs)]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        click.echo("  ".join((*cells, row[6])))
    for job in jobs:
        if job.error:
            again = f" Next try: {time.strftime('%H:%M:%S', time.localtime(job.next_try))}." if job.next_try else ""
            click.echo("\n  ".join([f"{job.id[:8]}: {job.error}{again}", *job.advice]), err=True)
    held = sum(job.nbytes for job in jobs if job.pending or job.state == "failed")
    if held:
        click.echo(f"{human_bytes(held)} are held for these, also where the folders they came from are gone.", err=True)


def _row(job: Job) -> tuple[str, ...]:
    step = "" if job.step is None else str(job.step)
    where = "/".join(filter(None, [f"{job.repo}@{job.revision}", job.path_in_repo]))
    return job.id[:8], job.state, str(job.tries), human_bytes(job.nbytes), step, where, str(job.folder)
