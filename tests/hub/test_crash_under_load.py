"""Eight real clients push and pull at once while the hub is killed and started again: nothing acknowledged is lost.

`PERDURE_HUB_KILLS=30 pytest tests/hub/test_crash_under_load.py` kills it more often.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from gits import Git, needs_git, needs_lfs
from hubs import TOKEN, Client, ask, look_after, serving

_KILLS = int(os.environ.get("PERDURE_HUB_KILLS", "2"))
_WAIT = 150 + 20 * _KILLS
_SIZE = 200_000

# What a file holds follows from its name, so that whoever reads it knows whether it is whole.
_CONTENT = """
import random, time
def content(name): return random.Random(name).randbytes(200_000)
ends = time.monotonic() + float(args[4])  # also when the test was killed and nobody says stop
def wait_or_stop():
    time.sleep(0.05)
    return os.path.exists(args[1]) or time.monotonic() > ends
"""

_PUSH = (
    _CONTENT
    + """
i = 0
while not wait_or_stop():
    name = f"{args[2]}-{i}.bin"
    try:
        api.upload_file(path_or_fileobj=content(name), path_in_repo=name, repo_id=args[0])
    except Exception as error:  # the hub was killed: the same again
        print("retry", type(error).__name__, file=sys.stderr, flush=True)
        continue
    print(name, flush=True)
    i += 1
"""
)

_PULL = (
    _CONTENT
    + """
i = 0
while not wait_or_stop():
    try:
        folder = Path(snapshot_download(args[0], local_dir=f"{args[3]}/{i}"))
    except Exception as error:
        print("retry", type(error).__name__, file=sys.stderr, flush=True)
        continue
    for path in folder.glob("*.bin"):
        assert path.read_bytes() == content(path.name), f"{path.name} is torn"
    print("pulled", flush=True)
    i += 1
"""
)


@dataclass
class Worker:
    """A client at work: what it was told is stored, or how often it read a whole snapshot."""

    acknowledged: list[str] = field(default_factory=list)
    failure: BaseException | None = None


def _content(name: str) -> bytes:
    return random.Random(name).randbytes(_SIZE)


def _follow(worker: Worker, process: subprocess.Popen[str]) -> None:
    """Take down what a client's process says as it says it."""
    assert process.stdout is not None
    for line in process.stdout:
        worker.acknowledged.append(line.strip())
    _, err = process.communicate(timeout=_WAIT)
    if process.returncode:
        worker.failure = AssertionError(err[-2000:])


def _push_by_git(worker: Worker, git: Git, repo: str, stop: Path, label: str) -> None:
    """Commit and push; after a refusal or a kill fetch what others did and try again."""
    try:
        i = 0
        while not stop.exists():
            name = f"{label}-{i}.bin"
            git.commit("clone", f"add {name}", **{name.replace(".", "__"): _content(name)})
            while not stop.exists():
                push = git.start("push", "-q", "origin", "main", at="clone")
                push.communicate(timeout=_WAIT)
                if push.returncode == 0:
                    worker.acknowledged.append(name)
                    break
                pull = git.start("pull", "-q", "--rebase", at="clone", GIT_LFS_SKIP_SMUDGE="1")
                pull.communicate(timeout=_WAIT)
                if pull.returncode:
                    git.start("rebase", "--abort", at="clone").communicate(timeout=_WAIT)
                    time.sleep(0.1)
            i += 1
    except BaseException as error:
        worker.failure = error


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def stop(tmp_path: Path) -> Iterator[Path]:
    """The file that tells the clients to stop, made at the end whatever that is."""
    yield tmp_path / "stop"
    (tmp_path / "stop").touch()


@needs_git
@needs_lfs
@pytest.mark.timeout(_WAIT * 2)
def test_nothing_acknowledged_is_lost(tmp_path: Path, stop: Path) -> None:
    store, port = tmp_path / "store", str(_free_port())
    workers: dict[str, Worker] = {}
    threads: list[threading.Thread] = []
    with serving(store, "--user", "me", "--port", port) as (_, url):
        for name in ("api", "git"):
            assert ask(url, "POST", "/api/repos/create", {"name": name}).status == 200
        gits = {f"git-{i}": Git(url, tmp_path / f"git-{i}") for i in range(2)}
        for git in gits.values():
            git.clone("me/git", lfs=True)
        for label in ("xet-0", "xet-1", "lfs-0", "lfs-1", "both", "pull"):
            client = Client(url, TOKEN, tmp_path / label, xet=not label.startswith("lfs"))
            repo = "me/git" if label == "both" else "me/api"
            script = _PULL if label == "pull" else _PUSH
            process = client.start(script, repo, stop, label, tmp_path / f"{label}-snapshots", 2 * _WAIT)
            worker = workers[label] = Worker()
            threads.append(threading.Thread(target=_follow, args=(worker, process), daemon=True))
        for label, git in gits.items():
            worker = workers[label] = Worker()
            threads.append(
                threading.Thread(target=_push_by_git, args=(worker, git, "me/git", stop, label), daemon=True)
            )
        for thread in threads:
            thread.start()
        _until_progress(workers, least=2)
    for _ in range(_KILLS):  # leaving a block is a kill
        with serving(store, "--port", port):
            _until_progress(workers, least=1)
    with serving(store, "--port", port) as (_, url):
        _until_progress(workers, least=1)
        stop.touch()
        for thread in threads:
            thread.join(_WAIT)
            assert not thread.is_alive()
        for label, worker in workers.items():
            assert worker.failure is None, (label, worker.failure)
        _require_all(url, workers)
    look_after("fsck", store)
    assert len(workers) == 8


def _until_progress(workers: dict[str, Worker], *, least: int) -> None:
    """Wait until most clients were told of more, and somebody is in the middle of something."""
    before = {label: len(worker.acknowledged) for label, worker in workers.items()}
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline:
        for worker in workers.values():
            assert worker.failure is None, worker.failure
        if sum(len(workers[label].acknowledged) >= count + least for label, count in before.items()) >= 4:
            time.sleep(random.random() / 10)
            return
        time.sleep(0.02)
    pytest.fail(f"no progress: { {label: len(worker.acknowledged) for label, worker in workers.items()} }")


def _require_all(url: str, workers: dict[str, Worker]) -> None:
    for repo, labels in (("me/api", ("xet-0", "xet-1", "lfs-0", "lfs-1")), ("me/git", ("both", "git-0", "git-1"))):
        rows = json.loads(ask(url, "GET", f"/api/models/{repo}/tree/main?recursive=1").body)
        stored = {row["path"]: row["lfs"]["oid"] for row in rows if "lfs" in row}
        for name in (name for label in labels for name in workers[label].acknowledged):
            assert stored.get(name) == hashlib.sha256(_content(name)).hexdigest(), f"{name} in {repo} is lost"
            assert ask(url, "GET", f"/{repo}/resolve/main/{name}").body == _content(name)
