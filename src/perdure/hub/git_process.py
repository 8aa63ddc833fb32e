"""Running git itself: for clones, for taking in pushed packs, never for anything a repository's content asks for."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from perdure.hub import limits
from perdure.hub.http import ApiError

_SETTINGS: Final = {
    "safe.directory": "*",  # the store may belong to another user of this machine; nothing in it is executed
    "core.hooksPath": os.devnull,
    "core.fsync": "all",
    "core.bigFileThreshold": "8m",  # from here on a blob is streamed and not held in memory
    "core.packedGitWindowSize": "16m",
    "core.packedGitLimit": "128m",
    "core.deltaBaseCacheLimit": "32m",
    "pack.threads": "1",
    "pack.windowMemory": "32m",
    "pack.deltaCacheSize": "32m",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "true",  # as the rest of the API, which reads any commit by its id
    "gc.auto": "0",
}


def require_git() -> str:
    """The path of the git command.

    Raises:
        ApiError: 501, when this machine has none.
    """
    found = shutil.which("git")
    if found is None:
        raise ApiError(501, "This hub's machine has no git command, so it cannot be cloned from or pushed to by git.")
    return found


class Commands:
    """The git commands of one request, which end with it, and what they start, too. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: list[subprocess.Popen[bytes]] = []
        self._killed = False

    def start(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a git command on the bare repository `folder`, without anybody's configuration; read its `stdout`."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": os.devnull}
        environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
        environment |= {"GIT_DIR": str(folder), "GIT_CONFIG_COUNT": str(len(_SETTINGS))}
        for i, (key, value) in enumerate(_SETTINGS.items()):
            environment |= {f"GIT_CONFIG_KEY_{i}": key, f"GIT_CONFIG_VALUE_{i}": value}
        with self._lock:
            if self._killed:
                raise _cut_off()
            process = subprocess.Popen(
                [require_git(), *arguments],
                cwd=folder,
                env=environment | dict(variables or {}),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,  # a group of its own: what it starts in turn can be ended with it
            )
            self._started.append(process)
        _limit_memory(process)
        return process

    def end(self, *processes: subprocess.Popen[bytes]) -> list[int]:
        """See commands to their end, by force where they have not ended by themselves; their exit codes.

        Raises:
            ApiError: 408, when they were killed.
        """
        codes = [_end(process) for process in processes]
        if self._killed:
            raise _cut_off()
        return codes

    def kill(self) -> None:
        """End what runs, and start nothing any more. Does not wait."""
        with self._lock:
            self._killed = True
            for process in self._started:
                _kill(process)


def _cut_off() -> ApiError:
    return ApiError(408, "The client has gone, or this took longer than the hub lets git work; nothing was done.")


def _limit_memory(process: subprocess.Popen[Any]) -> None:
    """A small pack can describe objects of any size: then this command fails, and not the machine."""
    if hasattr(resource, "prlimit"):
        with suppress(ProcessLookupError):  # it is done already
            resource.prlimit(process.pid, resource.RLIMIT_AS, (limits.GIT_MEMORY, limits.GIT_MEMORY))


def _end(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    process.stdout.close()
    try:
        return process.wait(timeout=limits.GIT_END_SECONDS)
    except subprocess.TimeoutExpired:
        _kill(process)
        return process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(OSError):  # it has ended since
            os.killpg(process.pid, signal.SIGKILL)
