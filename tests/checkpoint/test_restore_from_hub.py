"""Another machine goes on from what was pushed to a Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from perdure import AlreadyExists, Checkpointer, InvalidInput, NotFound, State, StateMismatch, checkpoints, publish
from perdure.hub.server import HubServer

TOKEN = "hf_tokenOfMe1234567890"
STEPS = 6


@pytest.fixture(autouse=True, scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """The hub on this machine is the only one that can be reached."""
    from huggingface_hub import constants

    with (
        HubServer(tmp_path_factory.mktemp("hub"), user="me", token=TOKEN) as server,
        pytest.MonkeyPatch.context() as on,
    ):
        on.setattr(constants, "HF_HUB_OFFLINE", False)
        for name, value in {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN}.items():
            on.setenv(name, value)
        on.setenv("HF_XET_CACHE", str(tmp_path_factory.mktemp("xet")))
        yield server


def make(seed: int) -> State:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    data = TensorDataset(torch.arange(80.0).reshape(20, 4) / 80)
    return State(model=model, optimizer=optimizer, loader=DataLoader(data, batch_size=2, shuffle=True))


def train(ckpt: Checkpointer, state: State, begin: int) -> Any:
    """Train to the end of the epoch's first `STEPS` batches, saving each; what is there then."""
    parts = state.components
    for step, (batch,) in enumerate(parts["loader"], begin):
        if step == STEPS:
            break
        parts["optimizer"].zero_grad()
        parts["model"](batch).square().mean().backward()
        parts["optimizer"].step()
        ckpt.save(step + 1, state, force=True)
    return [parts["model"].state_dict(), parts["optimizer"].state_dict(), torch.get_rng_state()]


@pytest.fixture(scope="module")
def finished(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run that was never interrupted, and whose third step was pushed, with and without what resuming needs."""
    run = tmp_path_factory.mktemp("run")
    with Checkpointer(run) as ckpt:
        end = train(ckpt, make(0), 0)
    publish(run / "checkpoint-3", "me/loop", revision="step/3", training_state=True)
    publish(run / "checkpoint-3", "me/loop", path_in_repo="last-checkpoint", training_state=True)
    publish(run / "checkpoint-3", "me/loop-model")
    return run, end


@pytest.mark.parametrize("source", ["hf://me/loop@step/3", "hf://me/loop@main/last-checkpoint"])
def test_resumed_on_another_machine_equals_uninterrupted(
    finished: tuple[Path, Any], tmp_path: Path, source: str
) -> None:
    run, there = tmp_path / "other machine", make(99)
    with Checkpointer(run) as ckpt:
        assert (ckpt.restore(there) or ckpt.restore(there, source)) == 3
        assert ckpt.restored is not None and ckpt.restored.path == run / "checkpoint-3"
        torch.testing.assert_close(train(ckpt, there, 3), finished[1], rtol=0, atol=0)
    assert [one.step for one in checkpoints(run)] == [3, 4, 5, 6]
    with Checkpointer(run) as ckpt:
        assert ckpt.restore(make(99)) == 6, "the run's own come first where it says so"
        assert ckpt.restore(make(99), source) == 3
        with pytest.raises(InvalidInput, match="holds checkpoints after step 3"):
            ckpt.save(4, make(99), force=True)


def test_what_no_run_can_go_on_from(finished: tuple[Path, Any], tmp_path: Path) -> None:
    state = make(99)
    before = {name: value.clone() for name, value in state.components["model"].state_dict().items()}
    with Checkpointer(tmp_path / "run") as ckpt:
        with pytest.raises(StateMismatch, match="pushed without its training state") as refused:
            ckpt.restore(state, "hf://me/loop-model")
        assert "--training-state" in refused.value.hint
        with pytest.raises(NotFound, match="no branch, tag or commit step/4") as unknown:
            ckpt.restore(state, "hf://me/loop@step/4")
        assert "step/3" in unknown.value.hint
        for source, step in (("me/loop", None), (3, None), ("hf://me/loop@step/3", 3), ("hf://a/b/c", None)):
            with pytest.raises(InvalidInput):
                ckpt.restore(state, source, step=step)  # type: ignore[arg-type]
        ckpt.save(3, state, force=True)
        ckpt.wait()
        with pytest.raises(AlreadyExists, match="checkpoint-3 is there already"):
            ckpt.restore(state, "hf://me/loop@step/3")
    torch.testing.assert_close(dict(state.components["model"].state_dict()), before, rtol=0, atol=0)
    assert [one.step for one in checkpoints(tmp_path / "run")] == [3]
