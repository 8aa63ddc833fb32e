"""Small saved folders, and pushes of them to a hub, for the tests of publishing."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as to_safetensors

from perdure.folder import stage
from perdure.format.names import is_weights

GUEST = "hf_tokenOfGuest1234567890"
READER = "hf_tokenOfReader1234567890"


def weights(seed: int = 0, size: int = 512) -> bytes:
    """A small safetensors file."""
    values = np.random.default_rng(seed).standard_normal((size, 64), dtype=np.float32)
    return to_safetensors({"embed.weight": values, "norm.weight": values[0]}, metadata={"format": "pt"})


def save_folder(folder: Path, files: Mapping[str, bytes] | None = None, *, kind: str = "model") -> Path:
    """What `save_model` leaves behind: files, and a manifest of them."""
    if files is None:
        files = {"model.safetensors": weights(), "config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}"}
    with stage(folder) as staged:
        for name, data in files.items():
            staged.write(name, data)
        staged.commit(kind, stale=is_weights)
    return folder


def model_files(folder: Path) -> dict[str, bytes]:
    """Name → content of a folder's files, but for the manifest."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "perdure.json" and path.is_file()}


@dataclass(frozen=True)
class Pushed:
    """What one `perdure push --json` came to."""

    code: int
    document: dict[str, Any]
    messages: str

    @property
    def error(self) -> dict[str, str]:
        assert self.code != 0, self.document
        return self.document["error"]


@dataclass(frozen=True)
class Hub:
    """The embedded hub on a real socket, pushed to by the real client in a process of its own."""

    url: str
    token: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """For a process that speaks with this hub: the client reads its settings once, at import."""
        return {**clean_environment(), "HF_TOKEN": self.token, "HF_HOME": str(self.home), "HF_ENDPOINT": self.url}

    def run(self, program: str) -> str:
        """What a Python program that speaks with this hub prints."""
        done = subprocess.run(
            [sys.executable, "-c", program], env=self.environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cli(self, *words: str, **environment: str) -> Pushed:
        """Run `perdure` with `--json`; keyword arguments are environment variables."""
        return run_cli(*words, **{**self.environment, **environment})

    def text(self, *words: str) -> str:
        """Run `perdure` as a person does; what it says, standard error last."""
        done = subprocess.run(
            [sys.executable, "-m", "perdure", *words], env=self.environment, capture_output=True, text=True,
            timeout=120, check=True,
        )  # fmt: skip
        return done.stdout + done.stderr

    def push(self, folder: Path, repo: str, *options: str, **environment: str) -> Pushed:
        """Run `perdure push`; keyword arguments are environment variables."""
        return push(folder, repo, "--endpoint", self.url, *options, HF_HOME=str(self.home),
                    **{"HF_TOKEN": self.token, **environment})  # fmt: skip

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        """Ask the hub itself, without its client."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def read(self, repo: str, path: str, revision: str = "main") -> bytes:
        """A file's content at a revision."""
        request = urllib.request.Request(
            f"{self.url}/{repo}/resolve/{revision}/{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def files(self, repo: str, revision: str = "main") -> set[str]:
        """Paths of a revision, without the `.gitattributes` that every repository starts with."""
        entries = self.ask(f"/api/models/{repo}/tree/{revision}?recursive=1")
        return {entry["path"] for entry in entries if entry["type"] == "file"} - {".gitattributes"}

    def commits(self, repo: str, revision: str = "main") -> list[str]:
        """Commits of a branch, newest first."""
        return [commit["id"] for commit in self.ask(f"/api/models/{repo}/commits/{revision}")]

    def commit_file(self, repo: str, path: str, content: bytes) -> str:
        """Commit one file as somebody else would; returns the commit."""
        lines = [
            {"key": "header", "value": {"summary": "By hand", "description": ""}},
            {
                "key": "file",
                "value": {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"},
            },
        ]
        request = urllib.request.Request(
            f"{self.url}/api/models/{repo}/commit/main",
            data="\n".join(map(json.dumps, lines)).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/x-ndjson"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.loads(answer.read())["commitOid"])


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of the client."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**clean, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}


def push(folder: Path, repo: str, *options: str, **environment: str) -> Pushed:
    """Run `perdure push --json` in a process of its own: the client reads its settings once, at import."""
    return run_cli("push", str(folder), repo, *options, **{**clean_environment(), **environment})


def run_cli(*words: str, **environment: str) -> Pushed:
    """Run `perdure … --json` in a process of its own, with no other environment than this."""
    done = subprocess.run(
        [sys.executable, "-m", "perdure", *words, "--json"], env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return Pushed(done.returncode, json.loads(done.stdout), done.stderr)
