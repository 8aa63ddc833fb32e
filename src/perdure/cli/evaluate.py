"""`perdure evaluate`: measure what was published, by hand or as what follows a push."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from perdure import evaluate, record_results
from perdure.cli.common import json_option

TEMPLATE = """\
#!/bin/bash
# What follows a push, as a job of its own. Hand it to a run as:  after_push="sbatch --parsable evaluate.sbatch"
# sbatch returns at once and passes PERDURE_REPO, PERDURE_REVISION, PERDURE_COMMIT and PERDURE_ENDPOINT on; the job
# writes what it measured onto the revision's card by itself. A private repository needs HF_TOKEN, or a login.
#SBATCH --job-name=perdure-evaluate
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --output=%x-%j.log
#SBATCH --export=ALL
set -euo pipefail

# source /path/to/venv/bin/activate
perdure evaluate lm-eval gsm8k,hellaswag --record -- --batch_size auto
"""
_EXAMPLES = """\b
Examples:
  perdure evaluate lm-eval gsm8k me/my-model@main-step-000000200 --record
  perdure evaluate lm-eval gsm8k,hellaswag me/my-model -- --limit 100 --batch_size 8
  perdure evaluate lighteval "gsm8k|5" me/my-model
  perdure evaluate sbatch > evaluate.sbatch         a script for Slurm, to be adapted
What follows a push is told where it went, so there REPO@REV is left out:
  perdure.attach(trainer, ..., after_push="perdure evaluate lm-eval gsm8k")
"""


@click.command(epilog=_EXAMPLES)
@click.argument("tool", type=click.Choice(["lm-eval", "lighteval", "sbatch"]))
@click.argument("tasks", required=False)
@click.argument("revision", metavar="[REPO@REV]", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--record", is_flag=True, help="Write the results onto the revision's card, in one commit.")
@click.option("--endpoint", help="The Hub's address. [default: PERDURE_ENDPOINT, HF_ENDPOINT, huggingface.co]")
@json_option
def command(
    *,
    tool: str,
    tasks: str | None,
    revision: str | None,
    arguments: tuple[str, ...],
    record: bool,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Measure a published model with lm-evaluation-harness or lighteval, which have to be installed.

    TASKS are those of the program, with commas; ARGUMENTS after `--` are its own. The results go onto the card with
    --record, or by themselves where this follows a push. `sbatch` prints a script for Slurm.
    """
    if tool == "sbatch":
        click.echo(TEMPLATE, nl=False)
        return
    if tasks is None:
        raise click.UsageError("Name the tasks, for example: perdure evaluate lm-eval gsm8k me/my-model")
    if revision is not None and revision.startswith("-"):  # `--` came before any REPO@REV
        arguments, revision = (revision, *arguments), None
    told = os.environ
    repo, _, named = (revision or told.get("PERDURE_REPO", "")).partition("@")
    if not repo:
        raise click.UsageError("Name REPO@REV; only what follows a push is told it by its environment.")
    if revision is None and told.get("PERDURE_PATH_IN_REPO"):
        raise click.UsageError(
            "What was pushed lies in a folder of the repository; only models at its root are measured."
        )
    branch = named or ("main" if revision else told.get("PERDURE_REVISION", "main"))
    commit = None if revision else told.get("PERDURE_COMMIT")
    endpoint = endpoint or told.get("PERDURE_ENDPOINT")
    found = evaluate(repo, tasks, revision=commit or branch, tool=tool, arguments=arguments, endpoint=endpoint)
    if record:
        record_results(repo, found, revision=branch, commit=commit, endpoint=endpoint)
    elif revision is None and "PERDURE_RESULTS" in told:
        Path(told["PERDURE_RESULTS"]).write_text(json.dumps(found))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            click.echo(f"{name}  {value:.4g}")
