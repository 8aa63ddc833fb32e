"""The code that runs, as it lies under git. Nothing is changed, and nothing that a repository names is run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from perdure.card.allowed import is_public_host, is_public_link, is_sayable
from perdure.card.training import NO_TEXT, Source
from perdure.integrations.command import is_installed, program_file

_PATIENCE = 5  # seconds for each question to git
_HARMLESS = {
    "core.fsmonitor": "false", "core.hooksPath": "/dev/null", "core.untrackedCache": "false", "protocol.allow": "never",
}  # fmt: skip


@cache
def source() -> Source | None:
    """The code of the program that runs, where that lies under git; None elsewhere, or where git does not answer.

    As it was when this was first asked: a file that changes while a program runs is not what runs.
    """
    script = program_file()
    place = script.parent if script is not None else Path.cwd()
    top = _git(place, "rev-parse", "--show-toplevel")
    commit = _git(place, "rev-parse", "HEAD")
    if not top or not commit:
        return None
    changed = _changes(place)
    if changed is None:
        return None
    name = script.relative_to(top).as_posix() if script is not None and script.is_relative_to(top) else None
    tracked = name is None or bool(_git(place, "ls-files", "--", str(script)))
    if not tracked and is_installed(script):
        return None  # a program that was installed below some repository is none of its code
    return Source(
        commit=commit,
        dirty=bool(changed) or not tracked,
        repository=public_address(_git(place, "remote", "get-url", "origin") or ""),
        script=name if name is not None and is_sayable(name) else None,
    )


def _changes(place: Path) -> str | None:
    """The tracked files that differ from the commit, without the filters that a repository may name: they are programs.

    A file that a filter keeps in another form counts as changed where git has to look into it.
    """
    named = _git(place, "config", "--name-only", "--get-regexp", r"^filter\.") or ""
    keys = [key for key in named.splitlines() if key.endswith((".clean", ".smudge", ".process", ".required"))]
    off = {key: "false" if key.endswith(".required") else "" for key in keys}
    question = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--no-renames")
    return _git(place, *question, settings=off)


def _git(folder: Path, *question: str, settings: Mapping[str, str] = NO_TEXT) -> str | None:
    """What git says; None where there is no git, no repository, or no answer in time.

    Of the environment nothing counts that would have it look at another repository. What a repository says may not run:
    no hooks, no monitors, and nothing is fetched.
    """
    every = [*_HARMLESS.items(), *settings.items()]
    asked = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for number, (key, value) in enumerate(every):
        asked |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    asked |= {"GIT_CONFIG_COUNT": str(len(every)), "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        git = subprocess.Popen(
            ["git", *question], cwd=folder, env={**asked, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError):
        return None
    with git:
        try:
            told, _ = git.communicate(timeout=_PATIENCE)
            return told.decode().strip() if git.returncode == 0 else None
        except (ValueError, subprocess.SubprocessError):
            return None
        finally:
            if git.returncode is None:
                os.killpg(git.pid, signal.SIGKILL)  # and whatever it started


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
    if address.scheme not in ("https", "http", "ssh", "git") or not is_public_host(host):
        return None
    link = f"https://{host}/{address.path.strip('/').removesuffix('.git')}"
    return link if is_public_link(link) else None
