"""The command that started this program, as others may see it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from perdure.card.allowed import is_path, is_random, is_sayable, names_private_host
from perdure.card.secrets import assigns_secret, is_secret, names_secret
from perdure.card.training import MAX_COMMAND

_WITHHELD = "…"
_PYTHON = ("python",)
_OPTION = re.compile(r"([-+~]*[\w.@/-]+)=(.*)", re.DOTALL)


def command() -> str | None:
    """The command that started the program, with `…` for each secret and each place outside of the current folder.

    None in a notebook, at a prompt, or under a launcher that does not say how it was called.
    """
    script, launcher = program_file(), _launcher()
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if script is None or launcher is None:
        return None
    if spec is not None:
        program = [*launcher, "-m", spec.name.removesuffix(".__main__")]
    elif launcher == _PYTHON and os.access(script, os.X_OK) and is_installed(script):
        program = [script.name]
    else:
        program = [*launcher, _from_here(script)]
    said = " ".join(map(_quoted, (*program, *_withheld(sys.argv[1:]))))
    return said if is_sayable(said, most=MAX_COMMAND) else None


def _launcher() -> tuple[str, ...] | None:
    """What runs the program, by the environment that it makes; None for one that is not known."""
    if "ACCELERATE_DYNAMO_USE_FULLGRAPH" in os.environ:  # no library sets it, and options and configuration are gone
        return ("accelerate", "launch", _WITHHELD)
    here, everywhere = (os.environ.get(name, "1") for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return _PYTHON if everywhere == "1" else None
    elsewhere = () if here == everywhere else (_WITHHELD,)  # other machines, and where they meet
    return ("torchrun", "--nproc-per-node", here, *elsewhere)


def _from_here(script: Path) -> str:
    here = Path.cwd().resolve()
    return script.relative_to(here).as_posix() if script.is_relative_to(here) else script.name


def _withheld(arguments: Iterable[str]) -> Iterator[str]:
    """Arguments of a command, without those that nobody else is to see or could use."""
    before = ""
    for argument in arguments:
        name, value = match.groups() if (match := _OPTION.fullmatch(argument)) else (before, None)
        if value is not None:
            yield argument if _may_be_said(name, value) else f"{name}={_WITHHELD}"
        elif re.match(r"--[A-Za-z]", argument):  # an option, and not the value of the one before it
            yield argument if _may_be_said("", argument) else _WITHHELD
        else:
            yield argument if _may_be_said(name, argument) else _WITHHELD
        before = argument if value is None and argument.startswith("-") else ""


def _quoted(argument: str) -> str:
    return argument if re.fullmatch(rf"[A-Za-z0-9@%+=:,./_{_WITHHELD}-]+", argument) else shlex.quote(argument)


def _may_be_said(name: str, value: str) -> bool:
    """Relative paths may: they are within the folder that the command is typed in."""
    if names_secret(re.sub(r"^-D(?=[A-Z])", "", name)) or name == "-p":
        return False
    if is_secret(value) or assigns_secret(value) or is_random(name, value) or names_private_host(value):
        return False
    inside = not value.startswith(("/", "~", "\\")) and ".." not in re.split(r"[/\\]", value)
    return not is_path(value) or (inside and not is_path(f"x{value}"))


def program_file() -> Path | None:
    """The file of the program that runs, with links resolved; None in a notebook or at a prompt."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def is_installed(script: Path | None) -> bool:
    """Whether a program came with this Python's packages."""
    return script is not None and script.is_relative_to(Path(sys.prefix).resolve())
