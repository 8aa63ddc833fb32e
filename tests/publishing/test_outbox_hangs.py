"""What hangs holds up nobody, and no worker outlives the training that it works for."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from perdure import Outbox
from perdure.publishing.outbox_store import Store
from perdure.publishing.outbox_worker import Worker
from publishing import Hub, save_folder, weights

TRAINING = """
import os, signal, sys, threading, time, perdure
run, folder, url, how = sys.argv[1:]
box = perdure.Outbox(run)
begun = threading.Event()
def leave(receipt):
    raise SystemExit(3)
def hang(receipt):
    begun.set()
    threading.Event().wait()
box.add(folder, "me/hangs", endpoint=url, after=leave)
box.add(folder, "me/hangs", endpoint=url, after=hang)
box.start()
assert begun.wait(60)
if how == "ends":
    assert box.drain(timeout=0.1) == ()
    box.stop()
    print([job.error for job in box.jobs()])
else:
    if os.fork() == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    print(box._worker._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_function_that_hangs_or_exits_holds_up_neither_waiting_nor_the_end(hub: Hub, tmp_path: Path) -> None:
    done = train(hub, tmp_path, "ends")
    assert done.returncode == 0 and "SystemExit: 3" in done.stdout and "was not called" in done.stdout


def test_a_worker_ends_with_its_training_although_a_forked_child_goes_on(hub: Hub, tmp_path: Path) -> None:
    done = train(hub, tmp_path, "is killed")
    assert done.returncode == -signal.SIGKILL
    worker, until = int(done.stdout), time.monotonic() + 60
    while is_running(worker) and time.monotonic() < until:
        time.sleep(0.1)
    assert not is_running(worker)


def test_a_command_that_hangs_holds_up_no_push_and_ends_with_the_worker(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # it was read when it was imported
    monkeypatch.setenv("HF_HOME", str(hub.home))
    box, pid = Outbox(tmp_path / "run"), tmp_path / "pid"
    hang = shlex.join(["sh", "-c", f"echo $$ > {pid}; sleep 600; true"])
    for step in (1, 2):
        folder = save_folder(tmp_path / f"checkpoint-{step}", {"model.safetensors": weights(step)})
        box.add(folder, "me/held", endpoint=hub.url, step=step, after=hang)
    box.add(save_folder(tmp_path / "out"), "me/held", endpoint=hub.url)
    worker = Worker(Store(box.run), token=hub.token)
    working = threading.Thread(target=worker.run, daemon=True)
    working.start()
    until = time.monotonic() + 60
    while (box.jobs()[-1].state != "done" or not pid.exists()) and time.monotonic() < until:
        time.sleep(0.1)
    states = [job.state for job in box.jobs()]
    left = list((box.run / ".perdure/outbox/jobs").iterdir())
    worker.stop()
    working.join(60)
    assert states == ["running", "running", "done"] and len(hub.commits("me/held")) == 4 and left == []
    assert not is_running(int(pid.read_text()))
    assert [job.state for job in box.jobs()] == ["queued", "queued", "done"]


def train(hub: Hub, folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", TRAINING, str(folder / "run"), str(save_folder(folder / "out")), hub.url, how]
    return subprocess.run(
        words,
        env=hub.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
    )


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
