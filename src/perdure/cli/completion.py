"""`perdure completion`: the script that teaches a shell to complete perdure's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_EXAMPLES = """\b
Put one of these into your shell's start-up file:
  eval "$(perdure completion bash)"        ~/.bashrc
  eval "$(perdure completion zsh)"         ~/.zshrc
  perdure completion fish | source         ~/.config/fish/config.fish
"""


@click.command(epilog=_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(context.find_root().command, {}, "perdure", "_PERDURE_COMPLETE").source())
