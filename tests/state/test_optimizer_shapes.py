"""An optimizer's state for parameters that have another shape now."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

import perdure


def stepped(inputs: int) -> tuple[torch.nn.Linear, torch.optim.AdamW]:
    model = torch.nn.Linear(inputs, 3)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step(model, optimizer)
    return model, optimizer


def step(model: torch.nn.Linear, optimizer: torch.optim.AdamW) -> None:
    model(torch.ones(1, model.in_features)).sum().backward()
    optimizer.step()


def test_of_a_parameter_with_another_shape_it_is_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, optimizer = stepped(4)
    saved = optimizer.state[model.bias]["exp_avg"].clone()
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, perdure.State(model=model, optimizer=optimizer), force=True)
    wider, fresh = stepped(64)
    own = fresh.state[wider.bias]["exp_avg"].fill_(7).clone()
    state = perdure.State(model=wider, optimizer=fresh)
    with perdure.Checkpointer(tmp_path) as ckpt:
        with pytest.raises(perdure.StateMismatch) as refused:
            ckpt.restore(state)
        told = "optimizer cannot take its state of weight, which had the shape [3, 4] and has [3, 64]"
        assert told in refused.value.differences
        assert torch.equal(fresh.state[wider.bias]["exp_avg"], own), "nothing was changed"
        with caplog.at_level(logging.WARNING, "perdure"):
            assert ckpt.restore(state, strict=False) == 1
        assert told in caplog.text
        assert torch.equal(fresh.state[wider.bias]["exp_avg"], saved)
        assert wider.weight not in fresh.state
        step(wider, fresh)
    assert fresh.state[wider.weight]["exp_avg"].shape == wider.weight.shape
