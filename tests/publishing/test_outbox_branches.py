"""Which job goes on top of which: never an older model over a newer one, nor over another run's untold."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import Outbox
from perdure.errors import InvalidInput
from perdure.publishing.outbox_store import Store
from perdure.publishing.outbox_worker import Worker
from publishing import Hub, save_folder, weights


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # it was read when it was imported
    monkeypatch.setenv("HF_HOME", str(hub.home))


def model(folder: Path, seed: int) -> Path:
    return save_folder(folder / f"m{seed}", {"model.safetensors": weights(seed), "config.json": b"{}"})


def work(box: Outbox, token: str) -> list[str]:
    Worker(Store(box.run), token=token).work()
    return [job.state for job in box.jobs()]


def test_a_branch_is_one_by_whatever_name_and_keeps_its_order(hub: Hub, tmp_path: Path) -> None:
    box = Outbox(tmp_path / "run")
    for step, repo in ((1, "me/ordered"), (None, "ordered"), (3, "me/ordered")):
        box.add(model(tmp_path, step or 2), repo, endpoint=hub.url, step=step)
    assert work(box, hub.token) == ["done"] * 3 and [job.tries for job in box.jobs()] == [1] * 3
    assert hub.read("me/ordered", "model.safetensors") == weights(3)

    for repo in ("late", "me/late"):  # one fails before anybody knows its full name, the other after it
        failed = box.add(model(tmp_path, 4), repo, endpoint=hub.url, step=4)
        assert work(box, "hf_wrong")[-1] == "failed"
        box.add(model(tmp_path, 5), "me/late", endpoint=hub.url, step=5)
        assert work(box, hub.token)[-1] == "done"
        if repo == "late":
            box.retry(failed.id)
            work(box, hub.token)
        else:
            with pytest.raises(InvalidInput, match="is older than"):
                box.retry(failed.id)
        again = next(job for job in box.jobs() if job.id == failed.id)
        assert again.state == "failed" and hub.read("me/late", "model.safetensors") == weights(5)


def test_who_came_to_a_branch_second_is_told_also_before_the_first_push(hub: Hub, tmp_path: Path) -> None:
    one, other = Outbox(tmp_path / "one"), Outbox(tmp_path / "other")
    for box in (one, other):
        box.watch("first", endpoint=hub.url)
        work(box, hub.token)  # there is no such repository yet
    for box, seed, ends in ((one, 1, "done"), (other, 2, "failed"), (one, 3, "done")):
        box.add(model(tmp_path, seed), "me/first", endpoint=hub.url)
        assert work(box, hub.token)[-1] == ends
    assert hub.read("me/first", "model.safetensors") == weights(3)

    hub.commit_file("me/first", "README.md", b"# Words of a person")  # that is nobody's model
    one.add(model(tmp_path, 4), "first", endpoint=hub.url)
    assert work(one, hub.token)[-1] == "done"
    third = Outbox(tmp_path / "third")  # a run that begins now is meant to go on top
    third.watch("me/first", endpoint=hub.url)
    work(third, hub.token)
    third.add(model(tmp_path, 5), "me/first", endpoint=hub.url)
    assert work(third, hub.token) == ["done"]
    one.add(model(tmp_path, 6), "me/first", endpoint=hub.url)
    assert work(one, hub.token)[-1] == "failed"
    assert hub.read("me/first", "model.safetensors") == weights(5)
