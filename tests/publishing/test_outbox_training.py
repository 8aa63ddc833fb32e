"""Pushes while a trainer trains, when the Hub is away, when another run is there, and when the run is killed."""

from __future__ import annotations

import logging
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, Request
from training_run import make_trainer

import perdure
from perdure.hub.server import HubServer
from publishing import Hub

STEPS = (2, 4, 6, 8)
REVISIONS = [f"main-step-{step:09d}" for step in STEPS]
TAKEN = ("another run pushed it", "somebody else was first")  # seen before the push, or by the Hub
PROGRAM = Path(__file__).with_name("training_run.py")


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name, value in hub.environment.items():
        if name.startswith("HF_"):
            monkeypatch.setenv(name, value)


def branches(hub: Hub, repo: str) -> dict[str, str]:
    found = hub.ask(f"/api/models/{repo}/refs")["branches"]
    return {branch["name"]: branch["targetCommit"] for branch in found}


def require_all_once(hub: Hub, repo: str, run: Path) -> None:
    """Every checkpoint of a run is a revision of one commit, on the repository's first, with the checkpoint's bytes."""
    assert sorted(branches(hub, repo)) == ["main", *REVISIONS]
    for step, revision in zip(STEPS, REVISIONS, strict=True):
        commits = hub.commits(repo, revision)
        assert len(commits) == 2 and commits[1] == hub.commits(repo)[-1]
        for name in ("model.safetensors", "config.json"):
            assert hub.read(repo, name, revision) == (run / f"checkpoint-{step}" / name).read_bytes()
        card = hub.read(repo, "README.md", revision).decode()
        assert f"step {step}\n" in card and f'.from_pretrained("{repo}", revision="{revision}")' in card


def test_a_hub_that_is_down_throughout_costs_nothing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Training never waits: what it does for a push is done by the thread that wrote the checkpoint."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    trainer = make_trainer(tmp_path / "run", hub_token=hub.token)
    added: list[str] = []
    with perdure.attach(trainer, push_to="me/down") as run, caplog.at_level(logging.INFO, "perdure"):
        assert run.outbox is not None
        add = run.outbox.add

        def noted(*args: object, **options: object) -> perdure.Job:
            added.append(threading.current_thread().name)
            return add(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(run.outbox, "add", noted)
        trainer.train()
        assert trainer.state.global_step == STEPS[-1]
        done = perdure.finish(trainer, wait=1)
    assert added == [*(f"perdure-save-{step}" for step in STEPS), "MainThread"]
    assert len(done.problems) == 1 and "waits in the outbox, with 4 more" in done.problems[0]
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) <= 2, "each failure is told once"

    with HubServer(tmp_path / "hub", port=port, user="me", token=hub.token) as server:
        late = Hub(server.url, hub.token, hub.home)
        assert run.outbox.drain(timeout=60) == ()
        assert hub.token not in (tmp_path / "run/.perdure/outbox/outbox.db").read_bytes().decode("latin-1")
        require_all_once(late, "me/down", tmp_path / "run")
        assert late.read("me/down", "model.safetensors") == (tmp_path / "run/model.safetensors").read_bytes()


def test_two_runs_on_one_repository(hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second one of each branch is told, and overwrites nothing."""
    trainers = [make_trainer(tmp_path / str(seed), seed=seed, max_steps=4, hub_token=hub.token) for seed in (0, 1)]
    boxes = []
    for trainer in trainers:
        with perdure.attach(trainer, push_to="me/both") as run:
            trainer.train()
            boxes.append(run.outbox)
    told = []
    for trainer, box in zip(trainers, boxes, strict=True):
        assert box is not None and box.drain(timeout=60) == ()
        told += [(trainer.args.output_dir, job) for job in box.jobs()]
    for revision in REVISIONS[:2]:
        lost, won = sorted((job.state != "failed", out, job) for out, job in told if job.revision == revision)
        assert not lost[0] and won[0] and any(words in str(lost[2].error) for words in TAKEN)
        assert hub.read("me/both", "model.safetensors", revision) == (won[2].folder / "model.safetensors").read_bytes()
        assert len(hub.commits("me/both", revision)) == 2
    assert any(words in caplog.text for words in TAKEN)
    loser = next(box for box in boxes if box is not None and any(job.state == "failed" for job in box.jobs()))
    again = loser.retry(next(job.id for job in loser.jobs() if job.state == "failed"))  # on top of it, if that is meant
    assert loser.drain(timeout=60) == () and len(hub.commits("me/both", again.revision)) == 3


def test_a_run_killed_amid_pushes_goes_on_and_pushes_each_once(hub: Hub, tmp_path: Path) -> None:
    run, repo = tmp_path / "run", "me/killed-run"

    def lose_commits(request: Request) -> str | None:
        return "lost" if request.method == "POST" and "/commit/" in request.path else None

    command = [sys.executable, str(PROGRAM), str(run), repo]
    with FaultyProxy(hub.url, lose_commits) as proxy:
        environment = {**hub.environment, "HF_ENDPOINT": proxy.url}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while not proxy.met["lost"] and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        process.kill()  # the Hub has made a commit, and nobody knows
        process.wait(timeout=10)
        assert proxy.met["lost"]
    left = max((int(path.name.rpartition("-")[2]) for path in run.glob("checkpoint-*")), default=0)
    with sqlite3.connect(run / ".perdure/outbox/outbox.db") as db:  # as if it had died before it was written down
        db.execute("UPDATE jobs SET endpoint = ?, ask = replace(ask, ?, ?)", (hub.url, proxy.url, hub.url))
        db.execute("UPDATE jobs SET branch = replace(branch, ?, ?)", (proxy.url, hub.url))
        never = "step = ? AND tries = 0"
        for (job,) in db.execute(f"SELECT id FROM jobs WHERE {never}", (left,)).fetchall():
            (run / f".perdure/outbox/jobs/{job}.json").unlink()
        db.execute(f"DELETE FROM jobs WHERE {never}", (left,))
    for _ in range(2):  # the next run does the rest; one more adds nothing
        trainer = make_trainer(run)
        with perdure.attach(trainer, push_to=repo):
            trainer.train(resume_from_checkpoint=True)
            assert perdure.finish(trainer, push_to_hub=False, wait=60).problems == ()
        require_all_once(hub, repo, run)
