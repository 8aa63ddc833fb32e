"""What several subcommands share: options and the way numbers are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for.

    Args:
        modules: What comes before a subcommand's name in that of its module, whose `command` it is.
        summaries: Subcommand → its line of help.
    """

    def __init__(self, *args: Any, modules: str, summaries: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._modules = modules
        self._summaries = summaries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._summaries:
            return None
        command = import_module(self._modules + cmd_name).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self._summaries and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}.{did_you_mean(args[0], self._summaries)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # from the table: help must not import every subcommand
            formatter.write_dl([(name, self._summaries[name]) for name in self.list_commands(ctx)])


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """The end of a message about a name that is none; empty where no name is like it.

    >>> did_you_mean("psh", ["pull", "push"])
    ' Did you mean push?'
    """
    near = get_close_matches(word, list(names), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def json_option(command: _Command) -> _Command:
    """`--json`: results for machines, on standard output; passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def hub_options(command: _Command) -> _Command:
    """`--endpoint` and `--token`: which Hub, and as whom."""
    token = click.option("--token", help="A token of the Hub. [default: HF_TOKEN, or what `hf auth login` stored]")
    endpoint = click.option("--endpoint", help="The Hub's address. [default: HF_ENDPOINT, or https://huggingface.co]")
    return endpoint(token(command))


def human_bytes(count: int) -> str:
    """A size for people, in powers of ten.

    >>> human_bytes(999), human_bytes(5_000_000), human_bytes(1_234_567_890)
    ('999 B', '5.0 MB', '1.2 GB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
