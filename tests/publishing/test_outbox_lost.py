"""What is held outlives the database; what is damaged is not pushed; what could not be queued is not held."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perdure import Outbox
from perdure.errors import Corrupt, InvalidInput
from perdure.publishing.outbox_store import Store
from perdure.publishing.outbox_worker import Worker
from publishing import save_folder, weights

AWAY = "http://127.0.0.1:9"


def database(box: Outbox) -> Path:
    return box.run / ".perdure/outbox/outbox.db"


def held(box: Outbox) -> list[str]:
    return sorted(path.name for path in (box.run / ".perdure/outbox/jobs").iterdir())


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["deleted", "emptied"])
def test_a_database_that_is_lost_is_made_again_from_what_is_held(
    tmp_path: Path, lose: Callable[[Path], object]
) -> None:
    box = Outbox(tmp_path / "run")
    steps = (1, 2)
    for step in steps:
        box.add(save_folder(tmp_path / "out"), "me/a", endpoint=AWAY, step=step, metrics={"loss": 0.5}, overwrite=True)
    given_up = box.add(tmp_path / "out", "me/a", endpoint=AWAY)
    box.cancel(given_up.id)
    shutil.rmtree(tmp_path / "out")
    before = [job for job in box.jobs() if job.pending]
    lose(database(box))

    again = Outbox(box.run)
    assert list(again.jobs()) == before, "all that waited, in its order, and nothing else"
    Worker(Store(box.run), token="hf_token").work()
    assert len([name for name in held(again) if not name.endswith(".json")]) == 2
    (database(again).parent / "jobs" / "f00").mkdir()  # an adding that was killed
    Worker(Store(box.run), token="hf_token").work()
    assert "f00" not in held(again)


def test_what_is_not_as_it_was_queued_is_not_pushed(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (plain / "model.safetensors.index.json").write_text(json.dumps(index))
    (plain / "config.json").write_text("{}")
    for part in (1, 2):
        (plain / f"model-0000{part}-of-00002.safetensors").write_bytes(weights(part))
    box = Outbox(tmp_path / "run")
    store = Store(box.run)
    gone = box.add(plain, "me/gone", endpoint=AWAY)
    (store.pin(gone.id) / "model-00002-of-00002.safetensors").unlink()
    other = box.add(plain, "me/other", endpoint=AWAY)
    (store.pin(other.id) / "config.json").write_text('{"of": "another"}')
    foreign = box.add(save_folder(tmp_path / "out"), "me/foreign", endpoint=AWAY)
    (store.pin(foreign.id) / "perdure.json").unlink()

    Worker(store, token="hf_token").work()
    assert [job.state for job in box.jobs()] == ["failed"] * 3
    reasons = ("00002.safetensors of", "config.json of this job is not", "perdure.json of")
    for job, words in zip(box.jobs(), reasons, strict=True):
        assert words in (job.error or "") and "Nothing was sent" in (job.error or "")


def test_a_card_edited_after_the_save_is_pushed_as_often_as_it_takes(tmp_path: Path) -> None:
    """The manifest that is held follows it before it is digested."""
    files = {"model.safetensors": weights(), "config.json": b"{}", "README.md": b"# Before"}
    folder = save_folder(tmp_path / "out", files)
    (folder / "README.md").write_text("# After")
    box = Outbox(tmp_path / "run")
    box.add(folder, "me/a", endpoint=AWAY)
    for tries in (1, 2):
        Worker(Store(box.run), token="hf_token").work()
        (job,) = box.jobs()
        assert (job.state, job.tries) == ("queued", tries), job.error


def test_what_could_not_be_queued_is_not_held(tmp_path: Path, saved: Path) -> None:
    box = Outbox(tmp_path / "run")
    for wrong in ({"metrics": {"loss": "low"}}, {"step": 1.5}):
        with pytest.raises(InvalidInput):
            box.add(saved, "me/a", **wrong)  # type: ignore[arg-type]
    job = box.add(saved, "me/a", metrics={"loss": np.float32(0.5)}, step=np.int64(3))  # type: ignore[arg-type,dict-item]
    assert job.metrics == {"loss": 0.5} and job.step == 3
    before = held(box)
    database(box).write_bytes(b"no database" * 1000)
    with pytest.raises(Corrupt, match="is damaged") as caught:
        box.add(saved, "me/a")
    assert held(box) == before and "Delete outbox.db" in caught.value.hint
