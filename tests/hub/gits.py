"""The unmodified `git` and `git-lfs`, with a home of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hubs import TOKEN

_WAIT = 120

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="waits for the git command: scripts/install-clients")
needs_lfs = pytest.mark.skipif(
    shutil.which("git-lfs") is None, reason="waits for the git-lfs command: scripts/install-clients"
)


@dataclass
class Git:
    """Git in a folder, as the user of `token`."""

    url: str
    folder: Path
    token: str | None = TOKEN
    user: str = "me"

    def address(self, repo: str) -> str:
        """A repository's address, with user and token in it."""
        host = urlsplit(self.url).netloc
        return f"http://{self.user}:{self.token}@{host}/{repo}" if self.token else f"{self.url}/{repo}"

    def start(self, *arguments: str, at: str = ".", **variables: str) -> subprocess.Popen[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        env = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "HF_", "PERDURE_"))}
        env |= {"HOME": str(self.folder), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
        env |= {"GIT_AUTHOR_NAME": "Me", "GIT_AUTHOR_EMAIL": "me@hub.invalid"}
        env |= {"GIT_COMMITTER_NAME": "Me", "GIT_COMMITTER_EMAIL": "me@hub.invalid", **variables}
        return subprocess.Popen(
            ["git", "-c", "init.defaultBranch=main", *arguments],
            cwd=self.folder / at, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *arguments: str, at: str = ".", **variables: str) -> str:
        """What git printed; it must succeed."""
        process = self.start(*arguments, at=at, **variables)
        out, err = process.communicate(timeout=_WAIT)
        assert process.returncode == 0, err[-4000:]
        return out

    def fail(self, *arguments: str, at: str = ".", **variables: str) -> str:
        """What git complained of; it must fail."""
        process = self.start(*arguments, at=at, **variables)
        out, err = process.communicate(timeout=_WAIT)
        assert process.returncode != 0, out + err
        return err

    def clone(self, repo: str, *options: str, into: str = "clone", lfs: bool = False) -> Path:
        """A clone; large files stay pointers unless `lfs`."""
        if lfs:
            self.run("lfs", "install")
        self.run("clone", "-q", *options, self.address(repo), into)
        return self.folder / into

    def commit(self, at: str, message: str = "a commit", **files: bytes | str) -> str:
        """Commit files, `__` standing for a dot in their names, and return its id."""
        for name, data in files.items():
            path = self.folder / at / name.replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        self.run("add", "-A", at=at)
        self.run("commit", "-qm", message, at=at)
        return self.run("rev-parse", "HEAD", at=at).strip()
