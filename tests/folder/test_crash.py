"""A real saver is killed with SIGKILL before each of its system calls that matter; what it leaves is judged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import ONE_FILE, OTHERS, SHARDS, content, put, save

import perdure
from perdure.folder import amend, is_interrupted, recover
from perdure.io import durable

# Each is a moment at which the disk changes.
POINTS = ("write", "pwrite", "fsync", "rename", "mkdir", "unlink", "rmdir")


def run_until(kill_at: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that dies by SIGKILL at its `kill_at`th point; whether it lived to the end."""
    child = os.fork()
    if child == 0:
        counted = 0

        def armed(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                nonlocal counted
                counted += 1
                if counted == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        try:
            for point in POINTS:
                setattr(os, point, armed(getattr(os, point)))
            swap = durable._exchange_call()
            if swap is not None:
                durable._exchange_call = lambda: armed(swap)  # type: ignore[assignment,misc]
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFEXITED(status)


def test_killed_anywhere_a_folder_of_our_own_is_old_or_new(tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen, survived, kill_at = set(), False, 0
    while not survived:
        kill_at += 1
        save(out, ONE_FILE)
        survived = run_until(kill_at, lambda: save(out, SHARDS))
        found = content(out)
        assert found in (ONE_FILE, SHARDS)
        assert perdure.verify(out).ok
        seen.add(len(found))
    assert seen == {len(ONE_FILE), len(SHARDS)}
    assert kill_at > 20
    save(out, ONE_FILE)
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "leftovers of the dead are collected"


def test_killed_anywhere_a_new_folder_is_absent_or_whole(tmp_path: Path) -> None:
    survived, kill_at = False, 0
    while not survived:
        kill_at += 1
        out = tmp_path / str(kill_at) / "out"
        survived = run_until(kill_at, lambda out=out: save(out, SHARDS))  # type: ignore[misc]
        assert not out.exists() or content(out) == SHARDS


@pytest.mark.parametrize(("old", "new"), [(ONE_FILE, SHARDS), (SHARDS, ONE_FILE)])
def test_killed_anywhere_in_a_shared_folder_the_next_call_completes_or_undoes(
    tmp_path: Path, old: dict[str, bytes], new: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    put(out, OTHERS)
    survived, kill_at, interrupted = False, 0, 0
    while not survived:
        kill_at += 1
        save(out, old)
        survived = run_until(kill_at, lambda: save(out, new))
        no_mixture(out, old, new)
        if is_interrupted(out):
            interrupted += 1
            assert not perdure.verify(out).ok
            assert perdure.verify(out, recover=True).ok
            assert content(out) == {**OTHERS, **new}
        else:
            recover(out)
            assert content(out) in ({**OTHERS, **old}, {**OTHERS, **new})
            assert perdure.verify(out).ok
    assert interrupted > 5


def test_killed_again_and_again_while_it_recovers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, OTHERS)
    total = 0
    while True:
        total += 1
        save(out, ONE_FILE)
        if run_until(total, lambda: save(out, SHARDS)):
            break
        if not is_interrupted(out):
            continue
        again = 1
        while not run_until(again, lambda: recover(out)):
            no_mixture(out, ONE_FILE, SHARDS)
            again += 3
        assert content(out) == {**OTHERS, **SHARDS}
        assert perdure.verify(out).ok


def test_killed_anywhere_an_amended_folder_is_whole_after_the_next_call(tmp_path: Path) -> None:
    out = tmp_path / "out"
    survived, kill_at = False, 0
    while not survived:
        kill_at += 1
        save(out, {**ONE_FILE, "README.md": b"old"})
        survived = run_until(kill_at, lambda: amend(out, {"README.md": b"new"}))
        recover(out)
        assert (out / "README.md").read_bytes() in (b"old", b"new")
        assert perdure.verify(out).ok


def test_killed_at_random_instants(tmp_path: Path) -> None:
    out = tmp_path / "out"
    big = {**SHARDS, "model-00001-of-00002.safetensors": bytes(3_000_000)}
    for number in range(60):
        if number == 30:
            put(out, OTHERS)
        save(out, ONE_FILE)
        child = os.fork()
        if child == 0:
            try:
                while True:
                    save(out, big)
                    save(out, ONE_FILE)
            finally:
                os._exit(1)
        time.sleep(number % 30 / 1000)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert perdure.verify(out, recover=True).ok
        others = OTHERS if number >= 30 else {}
        assert {name: data for name, data in content(out).items() if not name.startswith(".")} in (
            {**others, **ONE_FILE},
            {**others, **big},
        )


def no_mixture(out: Path, old: dict[str, bytes], new: dict[str, bytes]) -> None:
    """Weights that can be found are whole, and the config beside them is theirs; a config is always there."""
    found = content(out)
    assert "config.json" in found, "a loader that finds none may make one up"
    whole = old if found["config.json"] == old["config.json"] else new
    if "model.safetensors" in found:
        assert found["model.safetensors"] == whole.get("model.safetensors")
    if "model.safetensors.index.json" in found:
        assert {name: data for name, data in whole.items() if "safetensors" in name}.items() <= found.items()
