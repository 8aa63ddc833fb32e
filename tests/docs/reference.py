"""The pages of docs/reference, made from docstrings and from the command line's own help.

`python tests/docs/reference.py` writes them, and so does `scripts/check --fix`; test_reference.py tells when that was
forgotten.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import perdure
from perdure import errors
from perdure.cli.app import cli

FOLDER = Path(perdure.__file__).parents[2] / "docs/reference"
GROUPS = {
    "Save and read": ("save_model", "SavedModel", "export", "open_weights", "WeightsReader"),
    "Check": ("verify", "Verification", "Problem"),
    "Checkpoints": ("State", "Checkpointer", "Every", "Keep", "Retention", "checkpoints", "CheckpointInfo"),
    "Trainers": ("attach", "Attachment", "finish", "Finished"),
    "Describe": (
        "describe",
        "facts_of",
        "Card",
        "Finding",
        "Facts",
        "BaseModel",
        "Dataset",
        "Evaluation",
        "License",
        "Quantization",
        "Weights",
        "Training",
        "Method",
        "Hardware",
        "Source",
        "Energy",
    ),
    "Publish": ("publish", "Receipt", "PushPlan", "pull", "Pulled", "Outbox", "Job"),
    "Choose": ("revisions", "Revision", "promote", "Promotion", "evaluate", "record_results"),
}
ERRORS = [name for name in perdure.__all__ if inspect.isclass(kind := getattr(errors, name, None)) and kind]
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Example):")
_WIDTH = 100


def python_page() -> str:
    """Every public name."""
    lines = [
        "# perdure in Python",
        "",
        "All of it is `perdure.NAME`; `perdure.__version__` is the version. Made from the docstrings.",
    ]
    for group, names in GROUPS.items():
        lines += ["", f"## {group}", "", "\n\n".join(entry(name) for name in names)]
    tree, _, rest = (errors.__doc__ or "").partition("```\n\n")
    lines += ["", "## Errors", "", tree.partition("\n\n")[2] + "```", "", rest.strip(), ""]
    lines += ["\n\n".join(error_entry(name) for name in ERRORS)]
    return "\n".join(lines) + "\n"


def entry(name: str) -> str:
    """One public name: signature, docstring and, of a class, its methods."""
    value = getattr(perdure, name)
    blocks = [f"### {name}", fenced(f"{name}{signature(value)}"), *markdown(value)]
    for method, made in members(value):
        if isinstance(made, property):
            blocks.append(f"**`.{method}`**: {one_line(made)}")
        else:
            blocks += [f"**`.{method}`**", fenced(f"{method}{signature(made)}"), *markdown(made)]
    return "\n\n".join(blocks)


def error_entry(name: str) -> str:
    """One error: what it means, and its name and exit code in programs."""
    kind = getattr(perdure, name)
    blocks = [f"### {name}", f"`{kind.kind}`, exit code {kind.exit_code}.", *markdown(kind)]
    return "\n\n".join(blocks)


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """A class's own public methods and properties, in the order of its source."""
    for name, member in vars(value).items() if inspect.isclass(value) else ():
        plain = member.__func__ if isinstance(member, classmethod) else member
        if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
            yield name, plain


def signature(value: Any) -> str:
    """As it stands in the source, on several lines where it is long."""
    if getattr(value, "_is_protocol", False):  # nothing to call
        return ""
    found = inspect.signature(value)
    shown: list[str] = []
    for one in found.parameters.values():
        if one.name in ("self", "cls"):
            continue
        if one.kind is one.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        factory = repr(one.default) == "<factory>"  # a dataclass's
        default = "" if one.default is one.empty else f" = {'…' if factory else repr(one.default)}"
        shown.append(f"{stars}{one.name}: {one.annotation}{default}")
    returns = "" if inspect.isclass(value) else f" -> {found.return_annotation}"
    short = f"({', '.join(shown)}){returns}"
    return short if len(short) <= _WIDTH else "(\n    " + ",\n    ".join(shown) + f",\n){returns}"


def markdown(value: Any) -> Iterator[str]:
    """A docstring's paragraphs; its sections as lists."""
    parts = _SECTION.split(f"\n{inspect.getdoc(value) or ''}")
    yield from paragraphs(parts[0])
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        text, _, rest = body.partition("\n\n") if title != "Example" else (body, "", "")
        text = textwrap.dedent(text.strip("\n"))
        if title == "Example":
            yield from paragraphs(text)
        elif title == "Returns":
            yield wrapped(f"Returns: {text}")
        else:
            items = re.split(r"\n(?=\S)", text)
            listed = [re.sub(r"^([\w, ]+):", r"- `\1`:", item) for item in items]
            yield f"{title}:\n\n" + "\n".join(wrapped(item, "  ") for item in listed)
        yield from paragraphs(rest)


def paragraphs(text: str) -> Iterator[str]:
    """Text as it stands; examples of the interactive interpreter are fenced."""
    for block in re.split(r"\n\n", text.strip("\n")):
        if block.lstrip().startswith(">>>"):
            yield fenced(re.sub(r" *# doctest:.*", "", textwrap.dedent(block)), "pycon")
        elif block.strip():
            yield block


def wrapped(text: str, indent: str = "") -> str:
    """Text in lines of no more than the width of the other documents."""
    text = " ".join(text.split())
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def one_line(value: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(value) or "").splitlines()[0]


def fenced(text: str, language: str = "text") -> str:
    """A block of code."""
    return f"```{language}\n{text}\n```"


def commands(command: click.Command = cli, name: str = "perdure") -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name, groups before what is in them."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from commands(found, f"{name} {inner}")


def command_page() -> str:
    """Every command and option."""
    entries = "\n\n".join(command_entry(name, command) for name, command in commands())
    return f"# perdure on the command line\n\nMade from what `--help` says of each command.\n\n{entries}\n"


def command_entry(name: str, command: click.Command) -> str:
    """One command: how it is called, what it does, its options and examples."""
    context = click.Context(command)
    arguments = [
        word for one in command.params if isinstance(one, click.Argument) for word in one.get_usage_pieces(context)
    ]
    options = [one for one in command.params if isinstance(one, click.Option)]
    usage = [name, *(["[OPTIONS]"] if options else []), *arguments]
    usage += ["COMMAND"] if isinstance(command, click.Group) else []
    blocks = [f"## {name}", fenced(" ".join(usage)), inspect.cleandoc(command.help or "")]
    if options:
        blocks.append("\n".join(option_line(option) for option in options))
    if command.epilog:
        blocks.append(fenced(textwrap.dedent(command.epilog.replace("\b\n", "")).strip()))
    return "\n\n".join(blocks)


def option_line(option: click.Option) -> str:
    """One option: its names, what it takes, and what it does."""
    choices = isinstance(option.type, click.Choice) and "|".join(map(str, option.type.choices))
    takes = "" if option.is_flag else " " + (option.metavar or choices or option.type.name.upper())
    names = ", ".join(f"`{name}{takes}`" for name in (*option.opts, *option.secondary_opts))
    default = f" [default: {option.default}]" if option.show_default and not option.is_flag else ""
    return wrapped(f"- {names}: {option.help}{default}", "  ")


PAGES = {"python.md": python_page, "command-line.md": command_page}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page, made in PAGES.items():
        (FOLDER / page).write_text(made())
