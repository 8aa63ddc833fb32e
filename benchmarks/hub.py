"""The embedded hub with the real client, over a real socket: bytes per second, its memory, requests per second.

The limit is a plain copy of the file, made durable, and its sha256: what no hub that keeps its word can do without.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from _measure import write_json

_TOKEN = "token-of-a-benchmark"
_BLOCK = 16 * 2**20
_REQUEST_SECONDS = 5.0
_CONNECTIONS = 4

_CLIENT = """
import os, sys, time
from huggingface_hub import HfApi, hf_hub_download
api = HfApi()
start = time.perf_counter()
if sys.argv[1] == "upload":
    api.upload_file(path_or_fileobj=sys.argv[3], path_in_repo="model.safetensors", repo_id=sys.argv[2])
else:
    hf_hub_download(sys.argv[2], "model.safetensors", local_dir=sys.argv[3])
print(time.perf_counter() - start)
"""


@dataclass
class Row:
    """What was measured of one way to move the file."""

    name: str
    seconds: list[float] = field(default_factory=list)
    memory: int = 0


@dataclass(frozen=True)
class Hub:
    """A `perdure serve` at work."""

    process: subprocess.Popen[str]
    url: str

    def memory(self) -> int:
        """Its peak of resident bytes since `forget_peak`."""
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(match[1]) * 1024 if match else 0

    def forget_peak(self) -> None:
        """Begin the peak anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@contextmanager
def _serving(folder: Path) -> Iterator[Hub]:
    command = [sys.executable, "-m", "perdure", "serve", "--dir", str(folder), "--port", "0", "--user", "me"]
    env = {**os.environ, "PERDURE_HUB_TOKEN": _TOKEN, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield Hub(process, process.stdout.readline().split()[-1])
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _client(hub: Hub, home: Path, *arguments: str, xet: bool) -> float:
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env |= {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_TOKEN": _TOKEN, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    env |= {"HF_HUB_DISABLE_XET": "0" if xet else "1"}
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, *arguments], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def _ask(hub: Hub, method: str, path: str, body: bytes | None = None) -> None:
    connection = HTTPConnection(urlsplit(hub.url).netloc)
    connection.request(method, path, body, {"Authorization": f"Bearer {_TOKEN}"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status >= 400:
        raise SystemExit(f"{method} {path}: {answer.status}")


def _random_file(path: Path, size: int) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, _BLOCK):
            file.write(os.urandom(min(_BLOCK, size - start)))
        os.fsync(file.fileno())


def _copy_and_digest(source: Path, target: Path) -> float:
    start = time.perf_counter()
    with source.open("rb", buffering=0) as file, target.open("wb", buffering=0) as out:
        shutil.copyfileobj(file, out, _BLOCK)
        os.fsync(out.fileno())
    digest = hashlib.sha256()
    with target.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return time.perf_counter() - start


def _round(rows: list[Row], hub: Hub, folder: Path, size: int, number: int) -> None:
    limit, *ways = rows
    source = folder / "source"
    for row, action, xet in zip(ways, ("upload", "upload", "download"), (False, True, False), strict=True):
        print(f"\r\033[K{number} {row.name}", end="", file=sys.stderr, flush=True)
        if action == "upload":  # bytes that were never seen: none may be saved by knowing them
            _random_file(source, size)
            _ask(hub, "POST", "/api/repos/create", json.dumps({"name": f"{row.name.split()[-1]}-{number}"}).encode())
        repo = f"me/{(ways[0] if action == 'download' else row).name.split()[-1]}-{number}"
        home, target = folder / f"home-{row.name}-{number}", folder / "download"
        hub.forget_peak()
        row.seconds.append(_client(hub, home, action, repo, str(source if action == "upload" else target), xet=xet))
        row.memory = max(row.memory, hub.memory())
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
    limit.seconds.append(_copy_and_digest(source, folder / "copy"))
    (folder / "copy").unlink()


def _requests(hub: Hub, method: str, path: str) -> float:
    """Requests per second over some connections that stay open."""
    done = [0] * _CONNECTIONS
    until = time.perf_counter() + _REQUEST_SECONDS

    def work(number: int) -> None:
        connection = HTTPConnection(urlsplit(hub.url).netloc)
        while time.perf_counter() < until:
            connection.request(method, path, headers={"Authorization": f"Bearer {_TOKEN}"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            done[number] += 1
        connection.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(_CONNECTIONS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - start)


def _answers(hub: Hub) -> dict[str, float]:
    """How many answers per second the hub gives about a repository of 40 files."""
    _ask(hub, "POST", "/api/repos/create", b'{"name": "small"}')
    lines = [{"key": "header", "value": {"summary": "files"}}]
    lines += [{"key": "file", "value": {"path": f"d{i % 4}/{i}.json", "content": f"{i}"}} for i in range(40)]
    _ask(hub, "POST", "/api/models/me/small/commit/main", "\n".join(map(json.dumps, lines)).encode())
    asked: dict[str, Callable[[], float]] = {
        "info": lambda: _requests(hub, "GET", "/api/models/me/small"),
        "tree": lambda: _requests(hub, "GET", "/api/models/me/small/tree/main?recursive=1"),
        "resolve (HEAD)": lambda: _requests(hub, "HEAD", "/me/small/resolve/main/d1/1.json"),
    }
    return {name: measure() for name, measure in asked.items()}


def _rate(row: Row, size: int) -> float:
    return size / statistics.median(row.seconds) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, metavar="GB", help="the file to move (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="a folder on the disk to measure (default: in /tmp)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    options = parser.parse_args()
    size = int(options.size * 1e9)
    rows = [Row("copy, fsync, sha256"), Row("upload lfs"), Row("upload xet"), Row("download http")]
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        with _serving(folder / "store") as hub:
            for number in range(options.rounds):
                _round(rows, hub, folder, size, number)
            print("\r\033[K", end="", file=sys.stderr)
            answers = _answers(hub)
    print(f"{options.size:g} GB, {options.rounds} rounds, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':20}   GB/s   × limit   memory of the hub")
    for row in rows:
        memory = f"{row.memory / 2**20:8.0f} MiB" if row.memory else ""
        print(f"{row.name:20} {_rate(row, size):6.2f}    {_rate(row, size) / _rate(rows[0], size):6.2f}   {memory}")
    for what, rate in answers.items():
        print(f"{what:20} {rate:6.0f} requests/s over {_CONNECTIONS} connections")
    if options.json:
        figures = {row.name: {"seconds": row.seconds, "hub_memory_bytes": row.memory} for row in rows}
        write_json(options.json, bytes=size, transfers=figures, requests_per_second=answers)


if __name__ == "__main__":
    main()
