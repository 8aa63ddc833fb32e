"""Calls of save and restore that cannot mean well are refused, or told of, in words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import perdure
from perdure.format.manifest import read_manifest


def nested() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def jagged() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)


def sparse() -> torch.Tensor:
    return torch.eye(3).to_sparse()


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


def meta() -> torch.Tensor:
    return torch.empty(3, device="meta")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [nested, jagged, sparse, quantized, meta])
@pytest.mark.parametrize("place", ["model", "critic", "optimizer"])
def test_a_tensor_that_no_file_can_hold_is_named(place: str, make: Callable[[], torch.Tensor], tmp_path: Path) -> None:
    parts: dict[str, Any] = {name: torch.nn.Linear(2, 2) for name in ("model", "critic")}
    parts["optimizer"] = optimizer = torch.optim.SGD(parts["model"].parameters(), lr=0.1)
    if place == "optimizer":
        optimizer.state[parts["model"].weight] = {"momentum_buffer": make()}
    else:
        parts[place].register_buffer("odd", make())
    with perdure.Checkpointer(tmp_path) as ckpt:
        with pytest.raises(perdure.InvalidInput, match="odd" if place != "optimizer" else "weight.momentum_buffer"):
            ckpt.save(1, perdure.State(**parts), force=True)
        assert perdure.checkpoints(tmp_path) == ()


@pytest.mark.filterwarnings("ignore")
def test_nor_is_it_restored_into(new_run: Callable[..., Any], three: Path) -> None:
    module = torch.nn.Linear(2, 2)
    module.register_buffer("odd", nested())
    with perdure.Checkpointer(three) as ckpt, pytest.raises(perdure.InvalidInput, match=r"model\.odd"):
        ckpt.restore(perdure.State(model=module))


def test_a_module_is_no_state(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run()
    with perdure.Checkpointer(tmp_path) as ckpt:
        for call in (lambda: ckpt.save(1, run.model, force=True), lambda: ckpt.restore(run.model)):
            with pytest.raises(perdure.InvalidInput, match="not of a ParameterList") as caught:
                call()
            assert "State(model=model" in caught.value.hint
        assert ckpt.save(1, run.state, force=True)


@pytest.mark.parametrize("step", [1, 3])
def test_a_run_that_does_not_go_on_from_what_is_there_is_refused(
    step: int, new_run: Callable[..., Any], three: Path
) -> None:
    run = new_run()
    with perdure.Checkpointer(three, keep=perdure.Keep(last=1), save=perdure.Every(steps=100)) as ckpt:
        with pytest.raises(perdure.InvalidInput, match=rf"up to step 3.*at step {step}\.") as caught:
            ckpt.save(step, run.state)  # long before the first is due
        assert "restore(state)" in caught.value.hint
        assert len(perdure.checkpoints(three)) == 3
        assert ckpt.restore(run.state) == 3
        assert not ckpt.save(4, run.state)


def test_a_run_goes_on_where_nothing_is_ahead_of_it(new_run: Callable[..., Any], three: Path) -> None:
    run = new_run()
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.save(4, run.state, force=True)
    (three / "checkpoint-4" / "model.safetensors").unlink()
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.save(4, run.state, force=True), "a damaged one is nobody's future"
    weights = three / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 3
        assert ckpt.save(3, run.state, force=True), "restored from one before the newest"
    with perdure.Checkpointer(three) as ckpt:
        ckpt.take_over()
        assert ckpt.save(1, run.state, force=True)


def test_a_step_before_the_latest_is_refused(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run()
    with perdure.Checkpointer(tmp_path) as ckpt:
        assert ckpt.save(5, run.state, force=True)
        with pytest.raises(perdure.InvalidInput, match="Step 5 was saved, and now comes step 3"):
            ckpt.save(3, run.state, force=True)
        assert ckpt.save(6, run.state, force=True)
    assert [one.step for one in perdure.checkpoints(tmp_path)] == [5, 6]


@pytest.mark.parametrize(
    "name", ["../x", "/x", "perdure.json", "training_state/rng.json", "model.safetensors", "model-2.safetensors"]
)
def test_what_a_checkpoint_consists_of_is_no_file_of_the_callers(
    name: str, new_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = new_run()
    with perdure.Checkpointer(tmp_path) as ckpt:
        with pytest.raises(perdure.InvalidInput, match="nothing was written"):
            ckpt.save(1, run.state, force=True, files={"notes/a.json": b"{}", name: b"{}"})
        assert perdure.checkpoints(tmp_path) == ()
        assert ckpt.save(1, run.state, force=True, files={"notes/a.json": b"{}"})


def test_what_goes_while_one_looks_is_not_there(
    new_run: Callable[..., Any], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotated_away(path: Path) -> Any:
        if path.name == "checkpoint-2":
            shutil.rmtree(path)
        return read_manifest(path)

    monkeypatch.setattr("perdure.checkpoint.catalog.read_manifest", rotated_away)
    assert [(one.step, one.state) for one in perdure.checkpoints(three)] == [(1, "whole"), (3, "whole")]


def test_a_metric_that_keep_needs_and_nobody_tells(
    new_run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = new_run()
    with perdure.Checkpointer(tmp_path, keep=perdure.Keep(last=1, best="acc")) as ckpt:
        ckpt.save(1, run.state, metrics={"acc": 0.5}, force=True)
        assert caplog.text == ""
        ckpt.save(2, run.state, metrics={"loss": 0.5}, force=True)
        ckpt.save(3, run.state, metrics={"loss": 0.5}, force=True)
    assert caplog.text.count('Keep(best="acc")') == 1
    assert "told only loss" in caplog.text


class Stubborn:
    """Takes no state."""

    def state_dict(self) -> dict[str, int]:
        return {"x": 1}

    def load_state_dict(self, state: dict[str, int]) -> None:
        raise RuntimeError("never")


def test_a_component_that_refuses_its_state_says_what_was_changed(new_run: Callable[..., Any], tmp_path: Path) -> None:
    first, again = new_run(), new_run()
    first.optimizer.step()

    def state(run: Any) -> perdure.State:
        return perdure.State(model=run.model, optimizer=run.optimizer, mine=Stubborn())

    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, state(first), force=True)
        with pytest.raises(perdure.StateMismatch, match=r"mine \(Stubborn\).*RuntimeError: never") as caught:
            ckpt.restore(state(again))
        assert again.values() == {1.0}
        assert "model and optimizer were changed, wholly or in part, and mine may be, too" in str(caught.value)
    with perdure.Checkpointer(tmp_path) as ckpt:
        with pytest.raises(perdure.StateMismatch):
            ckpt.restore(state(again))
        with pytest.raises(perdure.InvalidInput, match="did not restore it"):
            ckpt.save(1, state(again), force=True)


def test_or_that_nothing_else_was(tmp_path: Path) -> None:
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, perdure.State(mine=Stubborn()), force=True)
        with pytest.raises(perdure.StateMismatch, match="Nothing else was changed; mine may have taken a part"):
            ckpt.restore(perdure.State(mine=Stubborn()))


def test_a_chosen_step_is_restored_and_no_other_in_its_stead(new_run: Callable[..., Any], three: Path) -> None:
    run = new_run()
    with perdure.Checkpointer(three) as ckpt:
        with pytest.raises(perdure.NotFound, match="no checkpoint of step 4") as missing:
            ckpt.restore(run.state, step=4)
        assert "there are: 1, 2, 3" in missing.value.hint
        assert ckpt.restore(run.state, step=2) == 2
        assert run.values() == {2.0}
        assert ckpt.restored is not None
        assert ckpt.restored.skipped == ()
    weights = three / "checkpoint-2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with perdure.Checkpointer(three) as ckpt, pytest.raises(perdure.Corrupt, match="can be used") as caught:
        ckpt.restore(new_run().state, step=2)
    assert caught.value.path == three / "checkpoint-2"
    assert "another step" in caught.value.hint


def test_what_came_after_a_chosen_step_is_to_be_deleted_first(new_run: Callable[..., Any], three: Path) -> None:
    run = new_run()
    with perdure.Checkpointer(three) as ckpt:
        ckpt.restore(run.state, step=1)
        for step in (2, 9):
            with pytest.raises(
                perdure.InvalidInput, match="after step 1, from which this run goes on, up to step 3"
            ) as error:
                ckpt.save(step, run.state, force=True)
            assert error.value.hint.endswith(f"rm -r {three / 'checkpoint-2'} {three / 'checkpoint-3'}")
        for step in (2, 3):
            shutil.rmtree(three / f"checkpoint-{step}")
        assert ckpt.save(2, run.state, force=True)
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state, step=2) == 2
        assert ckpt.save(2, run.state, force=True), "the newest, chosen by name"


@pytest.mark.parametrize("policy", [perdure.Every(steps=100), None])
def test_saves_of_which_none_was_due(
    policy: perdure.Every | None, new_run: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with perdure.Checkpointer(tmp_path, save=policy) as ckpt:
        for step in (1, 2):
            assert not ckpt.save(step, new_run().state)
    assert ("save was called 2 times, and none was due: pass save=" in caplog.text) == (policy is None)


def test_a_checkpoint_is_no_run(three: Path) -> None:
    with pytest.raises(perdure.InvalidInput, match="is a checkpoint, not the folder of a run") as caught:
        perdure.Checkpointer(three / "checkpoint-2")
    assert str(three) in caught.value.hint
    (three / "checkpoint-2" / "perdure.json").write_text("{")
    with pytest.raises(perdure.InvalidInput, match="is a checkpoint"):
        perdure.Checkpointer(three / "checkpoint-2")


@pytest.mark.parametrize("option", [{"memory": "128MB"}, {"memory": True}, {"tokenizer": "gpt2"}])
def test_options_of_another_kind(option: dict[str, Any], tmp_path: Path) -> None:
    (name,) = option
    with pytest.raises(perdure.InvalidInput, match=f"{name}="):
        perdure.Checkpointer(tmp_path, **option)
