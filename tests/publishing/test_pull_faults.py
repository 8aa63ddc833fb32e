"""Whatever the network, the disk or the machine does: the folder is old or new, and the next pull goes on.

As many as it takes to be sure: `PERDURE_FAULTS=200 PERDURE_KILLS=100 pytest tests/publishing/test_pull_faults.py`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, Random, Request
from pulling import command, contents, environment, is_whole, leftovers, pull

from perdure.folder.kept import stage_kept
from publishing import Hub, save_folder, weights

FAULTS = int(os.environ.get("PERDURE_FAULTS", "6"))
KILLS = int(os.environ.get("PERDURE_KILLS", "3"))


def files(seed: int) -> dict[str, bytes]:
    shards = {f"model-0000{n}-of-00003.safetensors": weights(10 * seed + n, size=4096) for n in (1, 2, 3)}
    return {**shards, "config.json": f'{{"seed": {seed}}}'.encode(), "tokenizer.json": b"{}"}


def test_a_file_goes_on_where_it_broke_off(hub: Hub, tmp_path: Path) -> None:
    saved = save_folder(tmp_path / "saved", {"model.safetensors": weights(1, size=2**15), "config.json": b"{}"})
    hub.push(saved, "me/broken-off")
    out, size = tmp_path / "out", (saved / "model.safetensors").stat().st_size
    faults = ["torn"]

    def choose(request: Request) -> str | None:
        return (faults.pop() if faults else "refused") if "model.safetensors" in request.path else None

    with FaultyProxy(hub.url, choose) as proxy:
        broken = pull(hub, "me/broken-off", out, endpoint=proxy.url)
        assert broken.code == 3 and "Go on with it: perdure pull" in broken.error["hint"] and not out.exists()
        with (tmp_path / ".out.perdure-kept" / "new" / "model.safetensors").open("r+b") as kept:
            assert 0 < (there := kept.seek(0, 2)) < size
        faults[:] = ["torn", "torn"]  # within one call, too
        proxy._choose = lambda request: faults.pop() if faults and "model.s" in request.path else None
        done = pull(hub, "me/broken-off", out, endpoint=proxy.url)
    assert done.document["bytes_received"] == size - there and is_whole(out) and leftovers(out) == []


@pytest.mark.timeout(1800)
def test_random_faults(hub: Hub, tmp_path: Path) -> None:
    hub.push(save_folder(tmp_path / "saved", files(1)), "me/pull-faults")
    faults = Random(seed=FAULTS, rate=0.4, most=FAULTS)
    with FaultyProxy(hub.url, faults) as proxy:
        for number in range(10 * FAULTS):
            out = tmp_path / f"out-{number}"
            while (done := pull(hub, "me/pull-faults", out, endpoint=proxy.url)).code != 0:
                assert done.error["kind"] == "unavailable" and not out.exists(), done.document
            assert contents(out) == contents(tmp_path / "saved")
            if faults.over:
                break
    assert sum(proxy.met.values()) == FAULTS


@pytest.mark.timeout(1800)
def test_the_puller_killed_at_any_moment(hub: Hub, tmp_path: Path) -> None:
    commits, versions, out = [], [], tmp_path / "out"
    for seed in (1, 2):
        hub.push(save_folder(tmp_path / "saved", files(seed)), "me/killed-pull")
        commits.append(hub.commits("me/killed-pull")[0])
        versions.append(contents(tmp_path / "saved"))
    assert pull(hub, f"me/killed-pull@{commits[0]}", out).code == 0
    chance = random.Random(KILLS)
    with FaultyProxy(hub.url, lambda request: "slow" if "model-" in request.path else None) as proxy:
        for number in range(1, KILLS + 1):
            asked = command(hub, f"me/killed-pull@{commits[number % 2]}", out, endpoint=proxy.url)
            with subprocess.Popen(
                asked, env=environment(hub), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as it:
                until = time.monotonic() + 30
                while it.poll() is None and not leftovers(out) and time.monotonic() < until:
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.6))
                it.send_signal(signal.SIGKILL)
            assert contents(out) in versions
    for commit, version in zip(commits, versions, strict=True):
        assert pull(hub, f"me/killed-pull@{commit}", out).code == 0
        assert contents(out) == version and is_whole(out)
    assert leftovers(out) == []


def test_a_full_disk_and_a_second_puller(hub: Hub, tmp_path: Path) -> None:
    saved = save_folder(tmp_path / "saved", files(3))
    hub.push(saved, "me/disk")
    out = tmp_path / "out"
    limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", *command(hub, "me/disk", out)]
    full = subprocess.run(
        limited, env={**environment(hub), "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert full.returncode == 1 and "is kept in" in full.stderr and not out.exists(), full.stderr
    with stage_kept(out, "another's"):
        second = pull(hub, "me/disk", out)
    assert second.error["kind"] == "invalid-input" and "Another process" in second.error["message"]
    assert pull(hub, "me/disk", out).code == 0 and contents(out) == contents(saved)
