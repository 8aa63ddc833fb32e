"""Whatever the network, the Hub or the machine does: each job ends in exactly one commit with the right bytes.

As many as it takes to be sure: `PERDURE_FAULTS=200 PERDURE_KILLS=50 pytest tests/publishing/test_outbox_faults.py`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, Random, Request

from perdure import Job, Outbox
from publishing import Hub, save_folder, weights

FAULTS = int(os.environ.get("PERDURE_FAULTS", "16"))
KILLS = int(os.environ.get("PERDURE_KILLS", "3"))
MODES = {"xet": {}, "lfs": {"HF_HUB_DISABLE_XET": "1"}}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", MODES)
def test_random_faults(hub: Hub, tmp_path: Path, mode: str) -> None:
    faults = Random(seed=len(mode) * FAULTS, rate=0.12, most=FAULTS // 2)
    pushes = Pushes(hub, tmp_path, f"me/faults-{mode}")
    with FaultyProxy(hub.url, faults) as proxy, worker(hub, pushes.box, **MODES[mode]):
        while not faults.over:
            for _ in range(4):
                pushes.add(endpoint=proxy.url)
            settle(pushes.box)
        assert sum(proxy.met.values()) == FAULTS // 2
    pushes.check()


@pytest.mark.parametrize(
    ("asked", "kind"),
    [("commit/", "lost"), ("commit/", "gateway"), ("repos/create", "lost"), ("branch/", "lost"), ("tag/", "gateway")],
)
def test_an_answer_lost_after_the_hub_has_done_it(hub: Hub, tmp_path: Path, asked: str, kind: str) -> None:
    repo = f"me/{kind}-{asked.strip('/').replace('/', '-')}"
    pushes = Pushes(hub, tmp_path, repo)
    left, on_top = [kind], []

    def choose(request: Request) -> str | None:
        if request.method == "POST" and f"/{asked}" in request.path and left:
            return left.pop()
        if asked == "commit/" and not left and not on_top:  # before the next try somebody else comes
            on_top.append(hub.commit_file(repo, "LICENSE", b"theirs"))
        return None

    with FaultyProxy(hub.url, choose) as proxy, worker(hub, pushes.box):
        pushes.add(endpoint=proxy.url, branch="main" if asked == "commit/" else "other", tag="v1")
        settle(pushes.box)
    (job,) = pushes.check()
    assert not left and job.tries == 2 and job.receipt is not None
    assert job.receipt.files == ("config.json", "model.safetensors", "perdure.json")
    assert not on_top or hub.commits(repo)[:2] == [on_top[0], job.receipt.commit]


@pytest.mark.timeout(1800)
def test_the_worker_killed_at_any_moment(hub: Hub, tmp_path: Path) -> None:
    chance = random.Random(KILLS)
    pushes = Pushes(hub, tmp_path, "me/killed-worker")
    for _ in range(KILLS):
        pushes.add(endpoint=hub.url)
        pushes.add(endpoint=hub.url)
        with worker(hub, pushes.box) as process:
            wait_until(lambda: any(job.state == "running" for job in pushes.box.jobs()))
            time.sleep(chance.uniform(0, 0.6))
            process.send_signal(signal.SIGKILL)
    with worker(hub, pushes.box):
        settle(pushes.box)
    pushes.check()


def test_a_hub_killed_in_the_middle_and_started_again(tmp_path: Path) -> None:
    chance = random.Random(7)
    store, home = tmp_path / "store", tmp_path / "home"
    port = free_port()
    hub = Hub(f"http://127.0.0.1:{port}", "hf_tokenOfMe1234567890", home)
    pushes = Pushes(hub, tmp_path, "me/restarted")
    with worker(hub, pushes.box):
        for _ in range(max(2, KILLS // 2)):
            pushes.add(endpoint=hub.url)
            pushes.add(endpoint=hub.url)
            with serving(store, port, hub.token) as server:
                wait_until(lambda: any(job.state == "running" for job in pushes.box.jobs()))
                time.sleep(chance.uniform(0, 1.0))
                server.send_signal(signal.SIGKILL)
        with serving(store, port, hub.token):
            settle(pushes.box)
            pushes.check()


def test_a_hub_that_is_down_throughout_costs_nothing_and_is_made_up_for(tmp_path: Path, monkeypatch) -> None:
    store, port = tmp_path / "store", free_port()
    hub = Hub(f"http://127.0.0.1:{port}", "hf_tokenOfMe1234567890", tmp_path / "home")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HOME", str(hub.home))
    pushes = Pushes(hub, tmp_path, "me/down")
    pushes.box.start()
    for _ in range(3):
        pushes.add(endpoint=hub.url)
    wait_until(lambda: any(job.error for job in pushes.box.jobs()))
    pushes.box.stop()
    assert {job.state for job in pushes.box.jobs()} == {"queued"}

    with serving(store, port, hub.token):
        assert Outbox(pushes.box.run, token=hub.token).drain(timeout=60) == ()
        pushes.check()


class Pushes:
    """Jobs of an outbox, each with weights of its own, and what must have become of them."""

    def __init__(self, hub: Hub, folder: Path, repo: str) -> None:
        self.hub, self.folder, self.repo = hub, folder, repo
        self.box = Outbox(folder / "run", token=hub.token)
        self.asked: dict[str, int] = {}

    def add(self, *, endpoint: str, branch: str | None = None, tag: str | None = None) -> None:
        """Queue a push of a folder that the next one saves over; to one of several branches unless told."""
        number = len(self.asked)
        files = {"model.safetensors": weights(number, size=2**9), "config.json": b'{"number": %d}' % number}
        saved = save_folder(self.folder / "saved", files)
        if branch is None:
            branch, tag = ("main", None) if number % 3 == 0 else (f"branch-{number % 3}", f"v{number}")
        job = self.box.add(saved, self.repo, revision=branch, tag=tag, endpoint=endpoint)
        self.asked[job.id] = number

    def check(self) -> tuple[Job, ...]:
        """Every job is done, with exactly one commit of its own, and its bytes in it."""
        jobs = self.box.jobs()
        assert [(job.state, job.error) for job in jobs] == [("done", None)] * len(self.asked)
        messages = {branch: self.messages(branch) for branch in {job.revision for job in jobs}}
        for job in jobs:
            assert job.receipt is not None
            mine = [commit for commit, text in messages[job.revision].items() if f"Perdure-Push: {job.id}" in text]
            assert mine == [job.receipt.commit]
            seed = self.asked[job.id]
            assert self.hub.read(self.repo, "model.safetensors", job.receipt.commit) == weights(seed, size=2**9)
            assert self.hub.read(self.repo, "config.json", job.receipt.commit) == b'{"number": %d}' % seed
            if job.tag:
                assert self.hub.read(self.repo, "config.json", job.tag) == b'{"number": %d}' % seed
        assert not any((self.box.run / ".perdure/outbox/jobs").iterdir())
        return jobs

    def messages(self, branch: str) -> dict[str, str]:
        """Commit → message of a branch."""
        commits: dict[str, str] = {}
        for page in range(1000):
            found = self.hub.ask(f"/api/models/{self.repo}/commits/{branch}?p={page}&limit=100")
            new = {one["id"]: one["message"] for one in found if one["id"] not in commits}
            if not new:
                break
            commits |= new
        return commits


@contextmanager
def worker(hub: Hub, box: Outbox, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that waits for nothing, until the block ends."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    fast = {"HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms", "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "3"}
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("fast_worker.py"), box.run],
        env={**clean, **fast, "HF_TOKEN": hub.token, "HF_HOME": str(hub.home), **environment},
    )
    try:
        yield process
        assert process.poll() in (None, -signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving(store: Path, port: int, token: str) -> Iterator[subprocess.Popen[str]]:
    """A hub in a process of its own."""
    serve = (
        "import sys, threading; from perdure.hub.server import HubServer\n"
        f"with HubServer(sys.argv[1], user='me', token={token!r}, port={port}) as hub: print(hub.url, flush=True); "
        "threading.Event().wait(600)"
    )
    with subprocess.Popen([sys.executable, "-c", serve, str(store)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("http")
        try:
            yield process
        finally:
            process.kill()


def settle(box: Outbox) -> None:
    """Wait until nothing is left to do."""
    wait_until(lambda: not any(job.pending for job in box.jobs()), seconds=600)


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that must come."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
