"""Pulls in processes of their own, for the tests of pulling."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perdure import verify
from publishing import Hub, Pushed, clean_environment

# The program `perdure`, for which waiting takes no time.
_IMPATIENT = (
    "import sys; from perdure.publishing import download; download._WAITS = (0.01,) * 5; "
    "from perdure.cli.app import run; run(sys.argv[1:])"
)


def command(hub: Hub, repo: str, folder: Path, *options: str, endpoint: str | None = None) -> list[str]:
    """The command line of a pull."""
    return [sys.executable, "-c", _IMPATIENT, "pull", repo, str(folder), "--endpoint", endpoint or hub.url, *options]


def environment(hub: Hub, **more: str) -> dict[str, str]:
    """The environment of a pull."""
    return {**clean_environment(), "HF_HOME": str(hub.home), "HF_TOKEN": hub.token, **more}


def pull(hub: Hub, repo: str, folder: Path, *options: str, endpoint: str | None = None, **more: str) -> Pushed:
    """Run `perdure pull --json`; keyword arguments are environment variables."""
    done = subprocess.run(
        command(hub, repo, folder, "--json", *options, endpoint=endpoint), env=environment(hub, **more),
        capture_output=True, text=True, timeout=120, check=False, cwd=folder.parent,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return Pushed(done.returncode, json.loads(done.stdout), done.stderr)


def refusals(hub: Hub, tmp_path: Path, asked: Sequence[tuple[str, str, str | None]]) -> list[dict[str, Any]]:
    """What pulls of (repository, endpoint, token) are refused with, all in one process."""
    program = f"""
import json, sys
from perdure import PerdureError, pull
from perdure.publishing import download
download._WAITS = (0.01,) * 2
said = []
for repo, endpoint, token in json.loads(sys.argv[1]):
    try:
        said.append({{"pulled": pull(repo, {str(tmp_path / "never")!r}, endpoint=endpoint, token=token).commit}})
    except PerdureError as error:
        said.append(error.as_document())
print(json.dumps(said))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(asked)], env=environment(hub, HF_TOKEN=""), capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "never").exists()
    return list(json.loads(done.stdout))


def contents(folder: Path) -> dict[str, bytes]:
    """Path → content of every file in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path) -> list[str]:
    """What lies beside a folder under a name derived from its."""
    return [path.name for path in folder.parent.iterdir() if path.name.startswith(f".{folder.name}")]


def is_whole(folder: Path) -> bool:
    """Whether `perdure verify` finds nothing wrong, and nothing more than was saved."""
    found: Any = verify(folder)
    return bool(found.ok and not found.extra)
