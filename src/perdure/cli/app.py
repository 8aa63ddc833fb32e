"""The command group: finds subcommands lazily and turns perdure's errors into messages and exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import click

import perdure
from perdure.cli.common import LazyGroup
from perdure.errors import InvalidInput

# subcommand → one line of help; `perdure.cli.<name>` holds its `command`
COMMANDS = {
    "card": "Write, renew or check the model card of a saved folder.",
    "completion": "Print the script that completes commands and options in bash, zsh or fish.",
    "demo": "Fine-tune a small model, save, publish and load it back: the whole road in minutes.",
    "evaluate": "Measure a published model with lm-evaluation-harness or lighteval; results go onto its card.",
    "export": "Turn a model folder into a clean one, as safetensors.",
    "hub": "Users, tokens and organisations of an embedded hub; check (fsck) and clean up (gc) its folder.",
    "ls": "List the checkpoints of a run.",
    "outbox": "Pushes of a run that wait for the Hub: list, drain, retry, cancel.",
    "promote": "Make a chosen revision main on the Hub, and tag it; no weights are sent.",
    "pull": "Download a revision of a model: resumable, verified, put in place at once.",
    "push": "Publish a saved model as one commit, private unless told otherwise.",
    "revisions": "List the branches and tags of a repository with their metrics; which is best?",
    "serve": "Run the embedded hub.",
    "verify": "Compare a saved folder with its manifest, byte for byte.",
}


@click.group(
    cls=LazyGroup,
    modules="perdure.cli.",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Tab completion: see `perdure completion --help`.",
)
@click.version_option(perdure.__version__, prog_name="perdure")
def cli() -> None:
    """What happens to a model after each training step and after the last one.

    Results go to standard output, progress and messages to standard error.
    Exit codes: 0 done, 1 found wrong, 2 wrong call, 3 the other side is away.
    """


def run(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        cli.main(args=arguments, prog_name="perdure", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        if "--json" in arguments:
            _print_error(InvalidInput.kind, error.format_message(), "")
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (head, less) went away: no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except perdure.PerdureError as error:
        _report(error, as_json="--json" in arguments)
        sys.exit(error.exit_code)


def _report(error: perdure.PerdureError, *, as_json: bool) -> None:
    if as_json:
        _print_error(error.kind, error.message, error.hint)
    click.echo(f"perdure: {error.message}", err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


def _print_error(kind: str, message: str, hint: str) -> None:
    click.echo(json.dumps({"error": {"kind": kind, "message": message, "hint": hint}}))
