"""The worker, a process of its own, pushes to the embedded hub over a real socket."""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, Request

from perdure import Outbox
from perdure.errors import SaveFailed
from perdure.publishing.receipt import Receipt
from publishing import GUEST, Hub, save_folder, weights


def saved_at(step: int, folder: Path) -> Path:
    return save_folder(folder / f"checkpoint-{step}", {"model.safetensors": weights(step), "config.json": b"{}"})


def test_each_job_is_one_commit_and_its_files_are_let_go(hub: Hub, box: Outbox, tmp_path: Path) -> None:
    receipts: list[Receipt] = []

    def follow(receipt: Receipt) -> None:
        receipts.append(receipt)
        raise RuntimeError("what follows costs nothing")

    steps = (10, 20, 30)
    for step in steps:
        box.add(saved_at(step, tmp_path), "me/steps", endpoint=hub.url, tag=f"s{step}", after=follow)
    assert box.drain(timeout=60) == ()

    jobs = box.jobs()
    assert [job.state for job in jobs] == ["done"] * 3 and [job.tries for job in jobs] == [1] * 3
    assert [receipt.commit for receipt in receipts] == [job.receipt.commit for job in jobs if job.receipt]
    assert [receipt.commit for receipt in reversed(receipts)] == hub.commits("me/steps")[:-1]
    for step in steps:
        assert hub.read("me/steps", "model.safetensors", f"s{step}") == weights(step)
    assert list((box.run / ".perdure/outbox/jobs").iterdir()) == []


def test_somebody_elses_commit_is_not_overwritten_until_that_is_wanted(hub: Hub, box: Outbox, tmp_path: Path) -> None:
    box.start()
    box.add(saved_at(10, tmp_path), "me/shared", endpoint=hub.url)
    assert box.drain(timeout=60) == ()
    theirs = hub.commit_file("me/shared", "config.json", b'{"of": "somebody else"}')
    job = box.add(saved_at(20, tmp_path), "me/shared", endpoint=hub.url)
    assert box.drain(timeout=60) == ()

    failed = box.jobs()[1]
    assert failed.state == "failed" and failed.error is not None and theirs[:12] in failed.error
    assert failed.retry_command == f"perdure outbox retry {job.id[:8]} {box.run}" in failed.advice[-1]
    assert hub.commits("me/shared")[0] == theirs
    box.retry(job.id)
    assert box.drain(timeout=60) == () and box.jobs()[1].state == "done"
    assert hub.read("me/shared", "model.safetensors") == weights(20) and theirs in hub.commits("me/shared")
    box.stop()


def test_a_worker_that_cannot_run_says_where_to_look(
    hub: Hub, box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.add(saved_at(10, tmp_path), "me/none", endpoint=hub.url)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(SaveFailed, match="ends whenever it is started") as caught:
        box.drain(timeout=60)
    assert "worker.log" in caught.value.hint
    box.start()
    assert box.add(saved_at(20, tmp_path), "me/none", endpoint=hub.url).state == "queued"
    box.stop()


def test_a_command_follows_a_push_that_succeeded(hub: Hub, box: Outbox, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    note = shlex.join(
        [sys.executable, "-c", f"import os; open({str(seen)!r}, 'a').write(os.environ['PERDURE_COMMIT'])"]
    )
    good = box.add(saved_at(10, tmp_path), "me/followed", endpoint=hub.url, tag="v1", after=note)
    bad = box.add(saved_at(20, tmp_path), "me/followed", endpoint=hub.url, after="false")
    box.add(saved_at(30, tmp_path), "me/followed", endpoint=hub.url, tag="v1", after=note)
    assert box.drain(timeout=60) == ()

    jobs = {job.id: job for job in box.jobs()}
    assert [job.state for job in jobs.values()] == ["done", "done", "failed"]
    receipt = jobs[good.id].receipt
    assert receipt is not None and seen.read_text() == receipt.commit and jobs[good.id].error is None
    assert "`false` ended with 1" in (jobs[bad.id].error or "")


def test_what_looks_like_a_secret_stops_the_job_until_it_is_allowed(hub: Hub, box: Outbox, tmp_path: Path) -> None:
    files = {"model.safetensors": weights(1), "config.json": b'{"data": "/home/ana/data"}'}
    job = box.add(save_folder(tmp_path / "out", files), "me/allowed", endpoint=hub.url)
    assert box.drain(timeout=60) == ()
    failed = box.jobs()[0]
    assert failed.state == "failed" and "--allow config.json:1:absolute-path" in failed.hint
    box.retry(job.id, allow=["config.json:1:absolute-path"])
    assert box.drain(timeout=60) == () and box.jobs()[0].state == "done"
    assert hub.read("me/allowed", "config.json") == files["config.json"]


def test_what_the_hub_refuses_for_good_is_tried_once(hub: Hub, box: Outbox, tmp_path: Path) -> None:
    guests = Outbox(tmp_path / "guests", token=GUEST)
    guests.add(saved_at(10, tmp_path), "me/not-theirs", endpoint=hub.url)
    card = b"---\nlicense: [mit\n---\n# A card that is no YAML\n"
    guests.add(save_folder(tmp_path / "out", {"config.json": b"{}", "README.md": card}), "guest/card", endpoint=hub.url)
    guests.add(saved_at(20, tmp_path), "guest/card", revision="other", endpoint=hub.url)
    assert guests.drain(timeout=60) == ()
    theirs, invalid, good = guests.jobs()
    assert [(job.state, job.tries) for job in guests.jobs()] == [("failed", 1), ("failed", 1), ("done", 1)]
    assert "may not" in str(theirs.error), theirs.error
    assert "card" in str(invalid.error).lower() and good.receipt is not None
    assert len(hub.commits("guest/card")) == 1 and all(job.retry_command for job in (theirs, invalid))


def test_two_outboxes_that_push_to_one_branch_in_the_same_moment(hub: Hub, box: Outbox, tmp_path: Path) -> None:
    assert hub.push(saved_at(1, tmp_path), "me/moment").code == 0
    at_once = threading.Barrier(2)

    def meet(request: Request) -> None:
        if "/commit/" in request.path and not at_once.broken:
            with suppress(threading.BrokenBarrierError):
                at_once.wait(30)
            at_once.abort()

    boxes = [box, Outbox(tmp_path / "other", token=hub.token)]
    with FaultyProxy(hub.url, meet) as one, FaultyProxy(hub.url, meet) as other:
        for each, proxy, step in zip(boxes, (one, other), (10, 20), strict=True):
            each.add(saved_at(step, tmp_path), "me/moment", endpoint=proxy.url)
            each.start()
        for each in boxes:
            assert each.drain(timeout=60) == ()
            each.stop()
    (won, step), (lost, _) = sorted(
        ((each.jobs()[0], step) for each, step in zip(boxes, (10, 20), strict=True)), key=lambda of: of[0].state
    )
    assert (won.state, lost.state) == ("done", "failed") and "somebody else was first" in str(lost.error)
    assert len(hub.commits("me/moment")) == 3 and hub.read("me/moment", "model.safetensors") == weights(step)


def test_another_run_makes_the_repository_in_the_same_moment(hub: Hub, box: Outbox, tmp_path: Path) -> None:
    def choose(request: Request) -> None:
        if request.path == "/api/repos/create":
            hub.ask(request.path, {"name": "at-once", "private": True})

    with FaultyProxy(hub.url, choose) as proxy:
        box.add(saved_at(10, tmp_path), "me/at-once", endpoint=proxy.url)
        assert box.drain(timeout=60) == ()
    assert [job.state for job in box.jobs()] == ["done"], box.jobs()
    assert hub.read("me/at-once", "model.safetensors") == weights(10)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the system does not weigh sessions")
def test_a_worker_that_is_waited_for_hurries(hub: Hub, box: Outbox, tmp_path: Path) -> None:
    at_it, weights_seen = threading.Event(), []

    def weight() -> str:
        (worker,) = (
            path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if str(box.run).encode() in path.read_bytes()
        )
        return (worker / "autogroup").read_text().rpartition("nice ")[2].strip()

    def choose(request: Request) -> None:
        if "/commit/" in request.path:
            weights_seen.append(weight())
            at_it.set()
            until = time.monotonic() + 30
            while weight() != "0" and time.monotonic() < until:
                time.sleep(0.02)
            weights_seen.append(weight())

    with FaultyProxy(hub.url, choose) as proxy:
        box.start()
        job = box.add(saved_at(10, tmp_path), "me/hurry", endpoint=proxy.url)
        assert at_it.wait(60)
        assert box.attempt(job.id).state == "done"
    box.stop()
    assert weights_seen == ["19", "0"]


@pytest.mark.parametrize("fault", ["429 for 2 s", "503 for 2 s"])
def test_a_hub_that_asks_to_be_left_alone_is_and_when_it_is_asked_again_is_told(
    hub: Hub, box: Outbox, tmp_path: Path, fault: str
) -> None:
    asked: list[float] = []

    def choose(request: Request) -> str | None:
        if not request.path.startswith("/api/models/me/alone"):
            return None
        asked.append(time.time())
        return fault if len(asked) == 1 else None

    with FaultyProxy(hub.url, choose) as proxy:
        box.start()
        job = box.add(saved_at(10, tmp_path), f"me/alone-{fault[:3]}", endpoint=proxy.url)
        until = time.monotonic() + 30
        while not (waits := box.jobs()[0]).error and time.monotonic() < until:
            time.sleep(0.02)
        assert waits.state == "queued" and fault[:3] in (waits.error or "")
        assert waits.next_try is not None and waits.next_try >= asked[0] + 2
        box.stop()
        assert Outbox(box.run, token=hub.token).drain(timeout=60) == (), "which the next worker knows of, too"
    assert asked[1] >= asked[0] + 2 and [(one.id, one.state) for one in box.jobs()] == [(job.id, "done")]


@pytest.mark.parametrize("at_a_terminal", [True, False])
def test_who_waits_at_a_terminal_sees_bytes_and_rate_and_nobody_else_does(
    hub: Hub, box: Outbox, tmp_path: Path, at_a_terminal: bool
) -> None:
    repo = f"me/shown-{at_a_terminal}"
    box.add(saved_at(10 + at_a_terminal, tmp_path), repo, endpoint=hub.url)
    push = ["push", saved_at(20 + at_a_terminal, tmp_path), repo]
    for words in (["outbox", "drain", box.run], push, ["pull", repo, tmp_path / "pulled"]):
        screen, standard_error = pty.openpty() if at_a_terminal else os.pipe()
        if at_a_terminal:
            fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # one of no width shows nothing
        command = [sys.executable, "-m", "perdure", *map(str, words)]
        with subprocess.Popen(command, env=hub.environment, stdout=subprocess.DEVNULL, stderr=standard_error) as run:
            os.close(standard_error)
            shown = b""
            with suppress(OSError):  # what a terminal says when the last who wrote to it is gone
                while block := os.read(screen, 2**16):
                    shown += block
        os.close(screen)
        assert run.returncode == 0, shown
        assert (b"B/s" in shown and b"%" in shown) if at_a_terminal else shown == b"", (words, shown)
