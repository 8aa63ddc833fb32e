from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import perdure
from perdure.checkpoint import restore


def test_nothing_to_restore_is_step_0(new_run: Callable[..., Any], tmp_path: Path) -> None:
    with perdure.Checkpointer(tmp_path / "new") as ckpt:
        assert ckpt.restore(new_run().state) == 0
    assert ckpt.restored is None
    assert not (tmp_path / "new").exists()


def test_the_newest_is_restored_in_place(new_run: Callable[..., Any], three: Path) -> None:
    run = new_run()
    memory = [parameter.data_ptr() for parameter in run.model]
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 3
    assert run.values() == {3.0}
    assert [parameter.data_ptr() for parameter in run.model] == memory
    assert ckpt.restored is not None
    assert ckpt.restored.skipped == ()
    run.optimizer.step()
    moments = [state["moment"].data_ptr() for state in run.optimizer.state.values()]
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 3
    assert run.values() == {3.0}
    assert [state["moment"].data_ptr() for state in run.optimizer.state.values()] == moments


def test_a_damaged_tensor_is_named(new_run: Callable[..., Any], three: Path) -> None:
    for step in (1, 2, 3):
        file = three / f"checkpoint-{step}" / "training_state" / "optimizer.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    with perdure.Checkpointer(three) as ckpt, pytest.raises(perdure.Corrupt, match=r"3 tried.*state\.1\.moment"):
        ckpt.restore(new_run().state)


@pytest.mark.parametrize("how", ["no manifest", "file gone", "file short", "another step's", "a link away", "empty"])
def test_one_that_is_not_whole_is_reported_and_passed_over(
    how: str, new_run: Callable[..., Any], three: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = three / "checkpoint-3"
    weights = newest / "model.safetensors"
    if how == "no manifest":
        (newest / "perdure.json").unlink()
    elif how == "file gone":
        weights.unlink()
    elif how == "file short":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif how == "another step's":
        shutil.copytree(three / "checkpoint-1", newest, dirs_exist_ok=True)
    elif how == "a link away":
        shutil.rmtree(newest)
        newest.symlink_to(three / "nowhere")
        newest = newest.resolve()
        (three / "nowhere").mkdir()
    else:
        shutil.rmtree(newest)
        newest.mkdir()
    run = new_run()
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 2
    assert run.values() == {2.0}
    assert "checkpoint-3 is not usable" in caplog.text


def test_another_model_is_refused_by_name_and_untouched(new_run: Callable[..., Any], three: Path) -> None:
    run = new_run(((3, 5), (8,), (2,)))
    with perdure.Checkpointer(three) as ckpt:
        with pytest.raises(perdure.StateMismatch) as caught:
            ckpt.restore(run.state)
        told = caught.value.differences
        assert "model: 1 is float32[7] in the checkpoint and float32[8] here" in told
        assert "model: 2 is not in the checkpoint" in told
        assert any("optimizer" in one and "2" in one for one in told)
        assert run.values() == {0.0}
        assert ckpt.restore(run.state, strict=False) == 3
    assert float(run.model[0].unique()) == 3.0
    assert float(run.model[1].unique()) == 0.0


def test_missing_and_extra_components_are_named(new_run: Callable[..., Any], three: Path) -> None:
    run = new_run()
    scheduler = torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD(run.model, lr=1.0), lambda step: 1.0)
    with perdure.Checkpointer(three) as ckpt:
        with pytest.raises(perdure.StateMismatch, match="the checkpoint has no scheduler"):
            ckpt.restore(perdure.State(model=run.model, optimizer=run.optimizer, scheduler=scheduler))
        with pytest.raises(perdure.StateMismatch, match="the checkpoint has optimizer, and State has not"):
            ckpt.restore(perdure.State(model=run.model))
        with pytest.raises(perdure.StateMismatch, match="optimizer was a Counting, and is a SGD"):
            ckpt.restore(perdure.State(model=run.model, optimizer=torch.optim.SGD(run.model, lr=1.0)))


def test_tied_here_and_not_there_is_refused(tmp_path: Path) -> None:
    def pair(tied: bool) -> torch.nn.ModuleDict:
        one, other = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
        if tied:
            other.weight = one.weight
        return torch.nn.ModuleDict({"one": one, "other": other})

    for number, tied in enumerate((True, False)):
        folder = tmp_path / str(number)
        with perdure.Checkpointer(folder) as ckpt:
            ckpt.save(1, perdure.State(model=pair(tied)), force=True)
            ckpt.restore(perdure.State(model=pair(tied)))
            with pytest.raises(perdure.StateMismatch, match=r"other\.weight"):
                ckpt.restore(perdure.State(model=pair(not tied)))


def test_float32_moments_of_bfloat16_parameters_stay_float32(tmp_path: Path) -> None:
    def make() -> tuple[torch.nn.Parameter, torch.optim.Optimizer, perdure.State]:
        weight = torch.nn.Parameter(torch.ones(5, dtype=torch.bfloat16))
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        return weight, optimizer, perdure.State(model=torch.nn.ParameterList([weight]), optimizer=optimizer)

    weight, optimizer, state = make()
    optimizer.state[weight]["momentum_buffer"] = torch.full((5,), 1 / 3)
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, state, force=True)
    weight, optimizer, state = make()
    with perdure.Checkpointer(tmp_path) as ckpt:
        assert ckpt.restore(state) == 1
    (momentum,) = (values["momentum_buffer"] for values in optimizer.state.values())
    assert momentum.dtype == torch.float32
    assert torch.equal(momentum, torch.full((5,), 1 / 3))


def test_a_refusal_tells_of_a_damaged_one_that_was_read_before(new_run: Callable[..., Any], three: Path) -> None:
    sizes = ((3, 5), (7,), (2,))
    run = new_run(sizes)
    run.optimizer.step()
    with perdure.Checkpointer(three, blocking=True) as ckpt:
        ckpt.save(4, run.state, force=True)
        again = new_run(sizes)
        weights = three / "checkpoint-4" / "training_state" / "optimizer.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
        with pytest.raises(perdure.StateMismatch, match=r"checkpoint-3.*partly that of checkpoint-4, which is damaged"):
            ckpt.restore(again.state)
        manifest = three / "checkpoint-4" / "perdure.json"
        manifest.write_bytes(manifest.read_bytes()[:-1])
        with pytest.raises(perdure.StateMismatch, match=r"checkpoint-3.*Nothing was changed"):
            ckpt.restore(again.state)


def test_rotation_leaves_a_damaged_one_and_tells_of_it_once(
    new_run: Callable[..., Any], three: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (three / "checkpoint-2" / "model.safetensors").unlink()
    run = new_run()
    with perdure.Checkpointer(three, keep=perdure.Keep(last=1), blocking=True) as ckpt:
        for step in (4, 5):
            ckpt.save(step, run.state, force=True)
    assert [(info.step, info.state) for info in perdure.checkpoints(three)] == [(2, "damaged"), (5, "whole")]
    assert caplog.text.count("checkpoint-2 is damaged, and stays until you delete it: model.safetensors") == 1


def test_a_checkpoint_that_cannot_be_opened_is_passed_over(
    new_run: Callable[..., Any], three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = restore.pinned

    def refused(path: Path) -> Any:
        if path.name == "checkpoint-3":
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(restore, "pinned", refused)
    run = new_run()
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 2
        assert ckpt.restored is not None
        assert "Input/output error" in ckpt.restored.skipped[0].reason
