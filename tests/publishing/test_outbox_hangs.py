"""What hangs holds up nobody, and no worker outlives the training that it works for."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from publishing import Hub, save_folder

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
