"""What ran and on what: the hardware, the code as it lies under git, and what was typed. Nothing is changed."""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from perdure.card.allowed import is_path, is_public_link, is_sayable, is_secret, names_secret
from perdure.card.training import MAX_COMMAND, Hardware, Source

_PATIENCE = 5  # seconds for each question to git
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_WITHHELD = "…"
_PYTHON = ("python",)
_OPTION = re.compile(r"(--?[\w.-]+|[\w.]+)=(.*)", re.DOTALL)


def hardware(device: Any, processes: int = 1) -> Hardware:
    """What a run trains on.

    Args:
        device: A `torch.device` of this process.
        processes: How many train together, each on a device of its own.
    """
    if device.type == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(device)
        return Hardware(name=properties.name, count=processes, memory=properties.total_memory)
    name = _cpu() if device.type in ("cpu", "mps") else device.type.upper()
    return Hardware(name=name, memory=_memory())


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    name = " ".join(found[1].split()) if found else platform.processor()
    return name if is_sayable(name) else f"CPU ({platform.machine()})"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


@cache
def source() -> Source | None:
    """The code of the program that runs, where that lies under git; None elsewhere, or where git does not answer.

    As it was when this was first asked: a file that changes while a program runs is not what runs.
    """
    script = _script()
    place = script.parent if script is not None else Path.cwd()
    top = _git(place, "rev-parse", "--show-toplevel")
    commit = _git(place, "rev-parse", "HEAD")
    if not top or not commit:
        return None
    changed = _git(place, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules")
    if changed is None:
        return None
    name = script.relative_to(top).as_posix() if script is not None and script.is_relative_to(top) else None
    tracked = name is None or bool(_git(place, "ls-files", "--", str(script)))
    if not tracked and _is_installed(script):
        return None  # a program that was installed below some repository is none of its code
    return Source(
        commit=commit,
        dirty=bool(changed) or not tracked,
        repository=public_address(_git(place, "remote", "get-url", "origin") or ""),
        script=name if name is not None and is_sayable(name) else None,
    )


def _script() -> Path | None:
    """The file of the program that runs, with links resolved; None in a notebook or at a prompt."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def _is_installed(script: Path | None) -> bool:
    return script is not None and script.is_relative_to(Path(sys.prefix).resolve())


def _git(folder: Path, *question: str) -> str | None:
    """What git says; None where there is no git, no repository, or no answer in time."""
    try:
        told = subprocess.run(
            [*_GIT, *question],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
        return told.stdout.decode().strip()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def public_address(remote: str) -> str | None:
    """The web address of a git remote; None where it is a path, or on a machine that has no public name.

    >>> public_address("git@github.com:me/x.git"), public_address("https://me:word@example.org/me/x.git")
    ('https://github.com/me/x', 'https://example.org/me/x')
    >>> public_address("/srv/git/x.git"), public_address("ssh://git@localhost/x")
    (None, None)
    """
    short = re.fullmatch(r"(?:[\w.-]+@)?([\w.-]+\.[A-Za-z]+):(?!//)([^\s/][^\s]*)", remote)
    try:
        address = urlsplit(f"ssh://{short[1]}/{short[2]}" if short else remote)
        host = address.hostname or ""
    except ValueError:
        return None
    if address.scheme not in ("https", "http", "ssh", "git") or not _is_public(host):
        return None
    link = f"https://{host}/{address.path.strip('/').removesuffix('.git')}"
    return link if is_public_link(link) else None


def _is_public(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
        return False
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".lan", ".localhost"))


def command() -> str | None:
    """The command that started the program, with `…` for each secret and each place outside of the current folder.

    None in a notebook, at a prompt, or under a launcher that does not say how it was called.
    """
    script, launcher = _script(), _launcher()
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if script is None or launcher is None:
        return None
    if spec is not None:
        program = [*launcher, "-m", spec.name.removesuffix(".__main__")]
    elif launcher == _PYTHON and os.access(script, os.X_OK) and _is_installed(script):
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
    hide_next = False
    for argument in arguments:
        name, value = match.groups() if (match := _OPTION.fullmatch(argument)) else (argument, None)
        secret = names_secret(name.lstrip("-").replace("-", "_"))
        if hide_next or (value is None and not _may_be_said(argument)):
            yield _WITHHELD
        elif value is not None and (secret or not _may_be_said(value)):
            yield f"{name}={_WITHHELD}"
        else:
            yield argument
        hide_next = value is None and secret and argument.startswith("-")


def _quoted(argument: str) -> str:
    return argument if re.fullmatch(rf"[A-Za-z0-9@%+=:,./_{_WITHHELD}-]+", argument) else shlex.quote(argument)


def _may_be_said(argument: str) -> bool:
    """Relative paths may: they are within the folder that the command is typed in."""
    inside = not argument.startswith(("/", "~", "\\")) and ".." not in re.split(r"[/\\]", argument)
    return not is_secret(argument) and (not is_path(argument) or (inside and not is_path(f"x{argument}")))
