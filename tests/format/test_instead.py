from __future__ import annotations

from pathlib import Path

from perdure.format.instead import instead_of


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_of_a_run_its_newest_checkpoint_that_was_committed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (5, 20, 100):
        touch(run / f"checkpoint-{step}" / "model.safetensors")
    touch(run / "checkpoint-200")  # no folder
    assert instead_of(run).endswith(str(run / "checkpoint-100"))
    touch(run / "checkpoint-20" / "perdure.json")
    assert instead_of(run).endswith(str(run / "checkpoint-20"))


def test_of_a_model_that_something_else_saved_the_command(tmp_path: Path) -> None:
    touch(tmp_path / "a model" / "model.safetensors")
    touch(tmp_path / "a model" / "checkpoint-5" / "model.safetensors")
    assert instead_of(tmp_path / "a model").endswith(f"perdure export '{tmp_path}/a model' OUT")


def test_where_nothing_tells_no_hint(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    assert instead_of(tmp_path) == instead_of(tmp_path / "notes.txt") == instead_of(tmp_path / "nowhere") == ""
