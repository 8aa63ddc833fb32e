"""What the hub's tests share: the real client in a process of its own, raw requests, a hub as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CLIENTS = Path(__file__).parents[2] / ".clients"
"""Where scripts/install-clients puts what is not in our own environment."""

TOKEN = "token-of-the-administrator"
_WAIT = 120

_PREAMBLE = """
import json, os, sys
from pathlib import Path
from huggingface_hub import HfApi, CommitOperationAdd, CommitOperationDelete, hf_hub_download, snapshot_download
url, token = os.environ["HF_ENDPOINT"], os.environ.get("HF_TOKEN")
api = HfApi(endpoint=url, token=token)
"""


@dataclass
class Client:
    """The unmodified `huggingface_hub`, in new processes with a home (and Xet cache) of their own."""

    url: str
    token: str | None
    home: Path
    xet: bool = True
    python: Path = Path(sys.executable)
    patience: float = _WAIT

    def run(self, script: str, *args: object) -> Any:
        """Run a script that has `api`, `url`, `token` and `args`; what it prints last, as JSON."""
        done = self.start(script, *args)
        out, err = done.communicate(timeout=self.patience)
        assert done.returncode == 0, err[-4000:]
        return json.loads(out.splitlines()[-1]) if out.strip() else None

    def fail(self, script: str, *args: object) -> str:
        """Run a script that must raise; the last lines of its traceback."""
        done = self.start(script, *args)
        _, err = done.communicate(timeout=self.patience)
        assert done.returncode != 0
        return str(err)[-3000:]

    def start(self, script: str, *args: object) -> subprocess.Popen[str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PERDURE_"))}
        env |= {
            "HF_HOME": str(self.home),
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "0" if self.xet else "1",
        }
        if self.token:
            env["HF_TOKEN"] = self.token
        source = f"{_PREAMBLE}args = {[str(arg) for arg in args]!r}\n{textwrap.dedent(script)}"
        return subprocess.Popen(
            [self.python, "-c", source], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str,
    method: str,
    path: str,
    body: bytes | dict[str, Any] | None = None,
    *,
    token: str | None = TOKEN,
    **headers: str,
) -> Answer:
    """One raw request; `path` is sent as it is."""
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    connection = HTTPConnection(urlsplit(url).netloc, timeout=_WAIT)
    try:
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def look_after(command: str, store: Path, *options: str, code: int = 0) -> Any:
    """What `perdure hub COMMAND` says of a store, which it has to leave with that exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "perdure", "hub", command, "--dir", str(store), "--json", *options],
        capture_output=True, text=True, timeout=_WAIT, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def ndjson(*entries: tuple[str, dict[str, Any]], header: dict[str, Any] | None = None) -> bytes:
    """A commit's body."""
    lines = [{"key": "header", "value": header or {"summary": "test"}}]
    lines += [{"key": key, "value": value} for key, value in entries]
    return "\n".join(json.dumps(line) for line in lines).encode()


def stored(folder: Path) -> set[Path]:
    """Every file and folder of a store but its database."""
    return {path for path in folder.rglob("*") if "hub.sqlite3" not in path.name}


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what happens a moment later in another thread or process; a failure when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@contextmanager
def serving(
    folder: Path, *options: str, token: str | None = TOKEN, max_file: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`perdure serve` as a process, with its URL; killed at the end if it still runs.

    No file it writes may be larger than `max_file` bytes, as if the disk were full.
    """
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if token:
        env["PERDURE_HUB_TOKEN"] = token
    command = [sys.executable, "-m", "perdure", "serve", "--dir", str(folder), "--port", "0", *options]
    if max_file is not None:
        command = ["sh", "-c", f'ulimit -f {max_file // 512}; exec "$@"', "sh", *command]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert " ready at " in ready, process.communicate(timeout=_WAIT)[1]
        yield process, ready.split()[-1]
    finally:
        process.kill()
        process.communicate(timeout=_WAIT)
