"""What a module's state dict holds beside parameters and buffers comes back, or is told of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import perdure


class Counting(torch.nn.Module):
    """An extra state of nested values and tensors, and a buffer that the state dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        self.register_buffer("seen", torch.zeros(1), persistent=False)
        self.history: dict[str, Any] = {"steps": [], "sum": torch.zeros(2)}

    def forward(self, x: Any) -> Any:
        self.seen += 1
        self.history = {"steps": [*self.history["steps"], (1, 0.5)], "sum": self.history["sum"] + 1}
        return self.linear(x)

    def get_extra_state(self) -> dict[str, Any]:
        return self.history

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.history = state


class Metric(torch.nn.Module):
    """A module with a state dict of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:
        self.total = state["total"]


def saved(folder: Path, **parts: Any) -> None:
    with perdure.Checkpointer(folder) as ckpt:
        ckpt.save(1, perdure.State(**parts), force=True)


def restored(folder: Path, **parts: Any) -> None:
    with perdure.Checkpointer(folder) as ckpt:
        assert ckpt.restore(perdure.State(**parts)) == 1


def test_extra_state_and_a_state_dict_of_its_own_come_back(tmp_path: Path) -> None:
    model, metric = torch.nn.Sequential(Counting(), torch.nn.Linear(2, 2)), Metric()
    model(torch.ones(2)), model(torch.ones(2))
    metric.total = 5.0
    saved(tmp_path, model=model, metric=metric)
    others, other_metric = torch.nn.Sequential(Counting(), torch.nn.Linear(2, 2)), Metric()
    restored(tmp_path, model=others, metric=other_metric)
    counting: Any = others[0]
    assert other_metric.total == 5.0
    assert counting.history["steps"] == [(1, 0.5)] * 2
    assert counting.history["sum"].tolist() == [2, 2]
    assert counting.seen.tolist() == [2]
    assert torch.equal(counting.linear.weight, model[0].linear.weight)  # type: ignore[union-attr,arg-type]


def test_a_module_that_has_no_extra_state_any_more_is_told_of(tmp_path: Path) -> None:
    saved(tmp_path, model=torch.nn.Sequential(Counting()))
    with pytest.raises(perdure.StateMismatch, match=r"0\._extra_state is in the checkpoint only"):
        plain = torch.nn.Module()
        plain.linear = torch.nn.Linear(2, 2)
        plain.register_buffer("seen", torch.zeros(1), persistent=False)
        restored(tmp_path, model=torch.nn.Sequential(plain))


def test_what_hooks_add_comes_back_or_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def made(*, takes: bool) -> Any:
        model: Any = torch.nn.Linear(2, 2)
        model.scale = torch.zeros(3)
        model.register_state_dict_post_hook(lambda own, state, prefix, meta: state.update(scale=own.scale))

        def take(own: Any, state: Any, prefix: str, *rest: Any) -> None:
            own.scale = state.pop(f"{prefix}scale")

        if takes:
            model.register_load_state_dict_pre_hook(take)
        return model

    model, other = made(takes=True), made(takes=True)
    model.scale += 7
    saved(tmp_path, model=model)
    restored(tmp_path, model=other)
    assert other.scale.tolist() == [7, 7, 7]
    assert torch.equal(other.weight, model.weight)
    assert not caplog.records
    restored(tmp_path, model=made(takes=False))
    assert "its state_dict holds scale, which its load_state_dict does not take" in caplog.text


def test_what_cannot_be_expressed_is_refused_by_name(tmp_path: Path) -> None:
    model = Counting()
    model.history = {"steps": object()}
    with pytest.raises(perdure.InvalidInput, match=r"model: .*_extra_state\.steps is a object"):
        saved(tmp_path, model=model)


def test_a_transformers_model_with_an_extra_state_is_read_by_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16, n_positions=8)
    model = transformers.GPT2LMHeadModel(config)
    model.transformer.extra = Counting()
    model.transformer.extra.history = {"steps": [1], "sum": torch.ones(1)}
    saved(tmp_path, model=model)
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-1")
    assert torch.equal(read.transformer.wte.weight, model.transformer.wte.weight)
    document = json.loads((tmp_path / "checkpoint-1/training_state/model.json").read_text())
    assert list(document["state"]["extra"]) == ["transformer.extra._extra_state"]
