"""Jobs are on disk before they are tried, and so are the bytes that they refer to."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

import perdure
from perdure import Outbox, verify
from perdure.errors import Corrupt, InvalidInput, NotFound, SaveFailed, Unavailable, UnsupportedFormat
from perdure.format.manifest import read_manifest
from perdure.publishing import outbox_pin
from perdure.publishing.outbox_store import Store
from perdure.publishing.receipt import Receipt
from publishing import save_folder, weights

HUB = "http://127.0.0.1:9"


@pytest.fixture
def box(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "run")


def store_of(box: Outbox) -> Store:
    return Store(box.run)


def checkpoint(folder: Path, seed: int = 0) -> Path:
    large = weights(seed, size=2**13)  # 2 MiB: what is held by links
    return save_folder(
        folder,
        {"model.safetensors": large, "config.json": b"{}", "training_state/optimizer.safetensors": large},
        kind="checkpoint",
    )


def receipt_of(commit: str) -> Receipt:
    return Receipt(
        repo="me/a", endpoint=HUB, url=HUB, revision="main", commit=commit, commit_url=HUB, tag=None, private=True,
        files=("config.json",), deleted=(), bytes_sent=2, created=True, changed=True, left_out=(),
    )  # fmt: skip


def test_a_job_is_what_was_asked_and_outlives_the_outbox_object(box: Outbox, saved: Path) -> None:
    job = box.add(saved, "me/a", revision="r", tag="v1", endpoint=HUB, metrics={"loss": 0.5}, step=20)
    assert (job.state, job.repo, job.revision, job.tag, job.endpoint) == ("queued", "me/a", "r", "v1", HUB)
    assert job.step == 20 and job.metrics == {"loss": 0.5} and job.tries == 0 and job.error is None
    assert job.nbytes == sum(path.stat().st_size for path in saved.iterdir())
    assert Outbox(box.run).jobs() == (job,)
    assert perdure.Outbox is Outbox


def test_an_outbox_that_was_never_used_leaves_nothing_behind(box: Outbox) -> None:
    assert box.jobs() == () and box.drain(timeout=5) == ()
    box.start()
    box.stop()
    assert not box.run.exists()


def test_nothing_that_is_done_to_the_folder_takes_a_jobs_bytes(box: Outbox, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "run/checkpoint-20")
    job = box.add(folder, "me/a", endpoint=HUB)
    held = store_of(box).pin(job.id)
    assert (held / "model.safetensors").stat().st_nlink == 2
    (folder / "config.json").write_bytes(b'{"edited": "in place"}')
    checkpoint(folder, seed=1)
    shutil.rmtree(folder)
    assert verify(held).ok
    assert (held / "model.safetensors").read_bytes() == weights(0, size=2**13)
    assert (held / "config.json").read_bytes() == b"{}"


def test_training_state_is_held_only_where_it_is_sent(box: Outbox, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "run/checkpoint-20")
    without = store_of(box).pin(box.add(folder, "me/a", endpoint=HUB).id)
    assert verify(without).ok
    assert set(read_manifest(without).files) == {"model.safetensors", "config.json"}
    assert {path.name for path in without.iterdir()} == {"model.safetensors", "config.json", "perdure.json"}
    complete = store_of(box).pin(box.add(folder, "me/a", endpoint=HUB, training_state=True).id)
    assert verify(complete).ok and (complete / "training_state/optimizer.safetensors").stat().st_nlink == 2


def test_an_outbox_in_a_models_folder_is_no_part_of_the_model(saved: Path) -> None:
    box = Outbox(saved)
    box.add(saved, "me/a")
    assert verify(saved).extra == ()
    save_folder(saved)
    assert verify(saved).ok and len(box.jobs()) == 1


def test_where_there_are_no_links_or_no_manifest_files_are_copied(
    box: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(tmp_path / "checkpoint-20")
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("model.safetensors", "config.json"):
        shutil.copy(folder / name, plain / name)
    held = store_of(box).pin(box.add(plain, "me/a", endpoint=HUB).id)
    (plain / "model.safetensors").write_bytes(b"overwritten in place, as save_pretrained does")
    assert (held / "model.safetensors").read_bytes() == weights(0, size=2**13)

    monkeypatch.setattr(outbox_pin.os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "another filesystem")))
    held = store_of(box).pin(box.add(folder, "me/a", endpoint=HUB).id)
    assert verify(held).ok and (held / "model.safetensors").stat().st_nlink == 1


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"folder": "nowhere"}, NotFound),
        ({"folder": "."}, InvalidInput),
        ({"repo": "not a repo"}, InvalidInput),
        ({"revision": "no..where"}, InvalidInput),
        ({"start": "middle"}, InvalidInput),
        ({"endpoint": "ftp://x"}, InvalidInput),
        ({"after": "'unclosed"}, InvalidInput),
    ],
    ids=str,
)
def test_what_cannot_be_pushed_is_not_queued(
    box: Outbox, saved: Path, call: dict[str, str], error: type[Exception]
) -> None:
    asked = {"repo": "me/a", "endpoint": HUB, **call}
    folder = saved.parent / asked.pop("folder", saved.name)
    with pytest.raises(error):
        box.add(folder, **asked)
    assert box.jobs() == ()


def test_a_folder_with_a_file_missing_is_not_queued_and_leaves_nothing(box: Outbox, saved: Path) -> None:
    (saved / "tokenizer.json").unlink()
    with pytest.raises(Corrupt, match=r"tokenizer\.json is missing"):
        box.add(saved, "me/a")
    assert list(store_of(box).pin("").iterdir()) == []


def test_a_disk_that_refuses_costs_nothing(box: Outbox, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(outbox_pin.shutil, "copyfile", full)
    with pytest.raises(SaveFailed, match="No space left"):
        box.add(saved, "me/a")
    assert box.jobs() == () and list(store_of(box).pin("").iterdir()) == []


def test_a_run_that_is_a_file_is_told(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(SaveFailed, match="Nothing was queued"):
        Outbox(tmp_path / "run").add(saved, "me/a", endpoint=HUB)


def test_jobs_of_a_branch_keep_their_order_and_carry_the_head_that_the_outbox_left(box: Outbox, saved: Path) -> None:
    first, second = (box.add(saved, "me/a", endpoint=HUB).id for _ in range(2))
    other = box.add(saved, "me/b", endpoint=HUB).id
    store = store_of(box)

    claim = store.claim()
    assert claim is not None and claim.job.id == first and claim.expected_head is None
    store.set_base(first, "0" * 40)
    store.again(first, Unavailable("away"), next_try=1.0)
    claimed = store.claim()
    assert claimed is not None and claimed.job.id == other  # tried less; `second` waits for `first`
    assert store.claim(paused={HUB}) is None
    store.requeue()  # the worker died

    claim = store.claim()
    assert claim is not None and (claim.job.id, claim.base, claim.job.tries) == (first, "0" * 40, 2)
    store.pushed(first, receipt_of("a" * 40))
    store.requeue()
    claims = {claim.job.id: claim for _ in range(3) if (claim := store.claim()) is not None}
    assert claims[first].job.receipt == receipt_of("a" * 40)  # what follows it holds up nothing
    assert claims[other].expected_head is None and claims[second].expected_head == "a" * 40


def test_a_clock_that_goes_back_changes_nothing_of_where_a_branch_was_left(
    box: Outbox, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(2e9, -3600)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    store, heads = store_of(box), ["a" * 40, "b" * 40, "c" * 40]
    for head in heads:
        store.pushed(box.add(saved, "me/a", endpoint=HUB).id, receipt_of(head))
        store.done(box.jobs()[-1].id)
    box.add(saved, "me/a", endpoint=HUB)
    claim = store.claim()
    assert claim is not None and claim.expected_head == heads[-1]


def test_a_jobs_turn_comes_without_reading_the_others(box: Outbox, saved: Path) -> None:
    """Otherwise a long run's thousands of jobs would be read at each checkpoint, and at each push."""
    jobs = [box.add(saved, "me/a", endpoint=HUB, revision=f"r{step}", step=step) for step in (1, 2, 3)]
    store = store_of(box)
    db = sqlite3.connect(store.folder / "outbox.db")
    db.execute("UPDATE jobs SET ask = 'unreadable' WHERE id <> ?", (jobs[0].id,))
    db.commit()
    db.close()
    model = box.add(saved, "me/a", endpoint=HUB)
    claims = [store.claim(), store.claim()]
    assert [claim.job.id for claim in claims if claim] == [model.id, jobs[0].id], "a finished model goes first"
    assert list(store.states().values()) == ["running", "queued", "queued", "running"]


def test_retry_pushes_on_top_and_cancel_lets_go(box: Outbox, saved: Path) -> None:
    first, second = (box.add(saved, "me/a", endpoint=HUB) for _ in range(2))
    store = store_of(box)
    store.claim()
    store.pushed(first.id, receipt_of("a" * 40))
    store.done(first.id)
    store.claim()
    store.failed(second.id, "somebody else", "look at it")
    assert box.jobs()[1].error == "somebody else" and not box.drain(timeout=5)
    again = box.retry(second.id[:12])
    assert again.state == "queued" and again.error is None
    claim = store.claim()
    assert claim is not None and claim.job.id == second.id and claim.expected_head is None
    with pytest.raises(InvalidInput, match="is running"):
        box.cancel(second.id)
    store.requeue()
    assert box.cancel(second.id).state == "cancelled" and not store.pin(second.id).exists()
    with pytest.raises(InvalidInput, match="is done"):
        box.retry(first.id)
    for wrong in ("", "zz"):
        with pytest.raises(NotFound):
            box.cancel(wrong)


def test_a_damaged_newer_or_readonly_database_is_told_as_that(box: Outbox, saved: Path) -> None:
    box.add(saved, "me/a")
    path = store_of(box).folder / "outbox.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UnsupportedFormat, match="newer perdure"):
        box.jobs()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(Corrupt, match="is damaged"):
        box.jobs()


def test_who_only_looks_waits_for_nobody(box: Outbox, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.publishing.outbox_schema._BUSY_SECONDS", 0.1)
    job = box.add(saved, "me/a", endpoint=HUB)
    db = sqlite3.connect(store_of(box).folder / "outbox.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    assert box.jobs() == (job,)
    with pytest.raises(SaveFailed, match="locked"):
        box.cancel(job.id)
    db.close()
    assert box.cancel(job.id).state == "cancelled"


def test_the_token_is_nowhere_on_disk(tmp_path: Path, saved: Path) -> None:
    box = Outbox(tmp_path / "run", token="hf_aVerySecretToken123")
    box.add(saved, "me/a", endpoint=HUB)
    box.start()
    until = time.monotonic() + 60
    while not box.jobs()[0].tries and time.monotonic() < until:
        time.sleep(0.05)
    box.stop()
    assert box.jobs()[0].tries >= 1
    for path in box.run.rglob("*"):
        assert not path.is_file() or b"VerySecret" not in path.read_bytes(), path
