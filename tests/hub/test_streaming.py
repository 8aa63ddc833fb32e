"""Files of any size pass through the hub in little memory: its process is watched, and those of git that it starts.

`PERDURE_HUB_MIB=5120 pytest tests/hub/test_streaming.py` sends a file of 5 GiB, and takes four times that on the disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gits import Git, needs_git
from hubs import TOKEN, Client, ask, serving

_SIZE = int(os.environ.get("PERDURE_HUB_MIB", "400")) * 2**20
_MOST = 300 * 2**20
_BLOCK = hashlib.shake_256(b"perdure").digest(1 << 20)

Served = tuple[subprocess.Popen[str], str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("hub") / "store", "--user", "me") as running:
        yield running


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of which no two parts are alike, larger than the hub's memory may get."""
    path = tmp_path_factory.mktemp("big") / "model.safetensors"
    with path.open("wb") as file:
        for i in range(_SIZE >> 20):
            start = (i * 2591) % len(_BLOCK)
            file.write(i.to_bytes(4, "little") + _BLOCK[start:] + _BLOCK[: start - 4 or None])
    return path


def _peak(pid: int) -> int:
    """The most memory a process ever had; nothing for one that has ended."""
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


class Watch(threading.Thread):
    """Looks again and again at the processes below one, and remembers the most memory that any of them ever had."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._done = threading.Event()
        self.most: dict[str, int] = {}

    def run(self) -> None:
        while not self._done.wait(0.005):
            for child in self._below(self._pid):
                with suppress(OSError):
                    command = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
                    self.most[command] = max(self.most.get(command, 0), _peak(child))

    def _below(self, pid: int) -> Iterator[int]:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                for child in map(int, task.read_text().split()):
                    yield child
                    yield from self._below(child)

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


def _digest_of(url: str, path: str) -> str:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
    answer, digest = connection.getresponse(), hashlib.sha256()
    while data := answer.read(1 << 20):
        digest.update(data)
    connection.close()
    return digest.hexdigest()


@pytest.mark.timeout(300 + 2 * (_SIZE >> 23))
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="waits for a system that tells a process's memory")
@pytest.mark.parametrize("xet", [False, True])
def test_up_and_down_in_bounded_memory(served: Served, big: Path, tmp_path: Path, xet: bool) -> None:
    process, url = served
    repo = f"me/big-{'xet' if xet else 'lfs'}"
    digest = _sha256(big)
    assert ask(url, "POST", "/api/repos/create", {"name": repo}).status == 200
    Client(url, TOKEN, tmp_path / "home", xet=xet, patience=120 + (_SIZE >> 23)).run(
        "api.upload_file(path_or_fileobj=args[1], path_in_repo='model.safetensors', repo_id=args[0])", repo, big
    )
    assert _digest_of(url, f"/{repo}/resolve/main/model.safetensors") == digest
    peak = _peak(process.pid)
    print(f"{_SIZE >> 20} MiB up and down by {'Xet' if xet else 'LFS'}: at most {peak >> 20} MiB of memory")
    assert peak < _MOST


@needs_git
def test_clones_and_pushes_in_bounded_memory(served: Served, tmp_path: Path) -> None:
    process, url = served
    git = Git(url, tmp_path / "git")
    assert ask(url, "POST", "/api/repos/create", {"name": "me/many"}).status == 200
    git.clone("me/many")
    for key, value in (("core.compression", "0"), ("core.bigFileThreshold", "1m")):  # the client is not what is tested
        git.run("config", key, value, at="clone")
    seed = _BLOCK * 9
    git.commit("clone", **{f"f{i}": i.to_bytes(4, "little") + seed[i:-9000] for i in range(30)})  # in git: 280 MB
    with Watch(process.pid) as watch:
        git.run("push", "-q", at="clone")
        git.clone("me/many", into="again")
    seen = "\n".join(watch.most)
    assert all(command in seen for command in ("index-pack", "upload-pack", "pack-objects")), seen
    assert max(watch.most.values()) < _MOST, watch.most
    assert git.run("rev-parse", "HEAD", at="again") == git.run("rev-parse", "HEAD", at="clone")
    assert _peak(process.pid) < _MOST


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()
