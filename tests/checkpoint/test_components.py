"""Optimizers, schedulers, modules and tensors of every kind go on, bit for bit, as they would have; or are refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import perdure

optim, schedulers = torch.optim, torch.optim.lr_scheduler


def adam_with(**options: Any) -> Callable[[Any], optim.Optimizer]:
    return lambda parameters: optim.AdamW(parameters, **options)


def weights_only(kind: type[optim.Optimizer], **options: Any) -> Callable[[Any], optim.Optimizer]:
    return lambda parameters: kind([one for one in parameters if one.dim() == 2], **options)


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    **{kind.__name__: kind for kind in (
        optim.Adadelta, optim.Adafactor, optim.Adagrad, optim.Adam, optim.Adamax, optim.ASGD, optim.LBFGS, optim.NAdam,
        optim.RAdam, optim.RMSprop, optim.Rprop, optim.SGD,
    )},
    "Muon": weights_only(optim.Muon),
    "AdamW, amsgrad": adam_with(amsgrad=True),
    "AdamW, fused": adam_with(fused=True),
    "AdamW, foreach": adam_with(foreach=True),
    "AdamW, rate in a tensor": adam_with(lr=torch.tensor(0.01), foreach=False),
    "SGD, Nesterov": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
}  # fmt: skip


class Training:
    def __init__(self, make: Callable[[Any], optim.Optimizer], **more: Callable[[Any, Any], Any]) -> None:
        torch.manual_seed(1)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        self.optimizer = make(self.model.parameters())
        self.more = {name: build(self.model, self.optimizer) for name, build in more.items()}
        self.state = perdure.State(model=self.model, optimizer=self.optimizer, **self.more)

    def loss(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss: torch.Tensor = self.model(torch.rand(5, 3)).pow(2).mean()
        loss.backward()
        return loss

    def go(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            losses.append(float(self.optimizer.step(self.loss)))
            for part in self.more.values():
                if isinstance(part, schedulers.ReduceLROnPlateau):
                    part.step(1.0)
                elif isinstance(part, schedulers.LRScheduler):
                    part.step()
                else:
                    part.update_parameters(self.model)
        return losses

    def everything(self) -> dict[str, torch.Tensor]:
        found = dict(self.model.state_dict())
        for number, parameter in enumerate(self.model.parameters()):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    found[f"{number}.{key}"] = value
        for name, part in self.more.items():
            if isinstance(part, torch.nn.Module):
                found |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
        return {name: tensor.detach().clone() for name, tensor in found.items()}


def goes_on(make: Callable[[], Training], folder: Path) -> None:
    training = make()
    with perdure.Checkpointer(folder) as ckpt:
        training.go(3)
        ckpt.save(3, training.state, force=True)
        losses = training.go(4)
        again = make()
        assert ckpt.restore(again.state) == 3
        assert again.go(4) == losses
    expected, found = training.everything(), again.everything()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on(name: str, quick_path: Path) -> None:
    goes_on(lambda: Training(OPTIMIZERS[name]), quick_path)


def lrs(kind: Any, *arguments: Any, **options: Any) -> Callable[[Any, Any], Any]:
    return lambda model, optimizer: kind(optimizer, *arguments, **options)


BESIDE: dict[str, Callable[[Any, Any], Any]] = {
    "chained": lambda model, optimizer: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(optimizer), schedulers.ExponentialLR(optimizer, 0.9)]),
    "warm restarts": lrs(schedulers.CosineAnnealingWarmRestarts, 2),
    "sequential": lambda model, optimizer: schedulers.SequentialLR(
        optimizer, [schedulers.LinearLR(optimizer), schedulers.CosineAnnealingLR(optimizer, 5)], milestones=[4]),
    "lambda": lrs(schedulers.LambdaLR, lambda step: 1 / (1 + step)),
    "plateau": lrs(schedulers.ReduceLROnPlateau, patience=1),
    "swa": lrs(optim.swa_utils.SWALR, swa_lr=0.05),
    "average": lambda model, optimizer: optim.swa_utils.AveragedModel(model),
    "moving average": lambda model, optimizer: optim.swa_utils.AveragedModel(
        model, multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_beside_the_optimizer_goes_on(name: str, quick_path: Path) -> None:
    goes_on(lambda: Training(OPTIMIZERS["SGD, Nesterov"], beside=BESIDE[name]), quick_path)


def test_a_group_that_was_added_later(quick_path: Path) -> None:
    def make(added: bool) -> Training:
        training = Training(lambda parameters: optim.AdamW(list(parameters)[:2], lr=0.1))
        if added:
            training.optimizer.add_param_group({"params": list(training.model.parameters())[2:], "lr": 0.01})
        return training

    goes_on(lambda: make(added=True), quick_path)
    with (
        perdure.Checkpointer(quick_path) as ckpt,
        pytest.raises(perdure.StateMismatch, match="had 2 parameter groups, and has 1"),
    ):
        ckpt.restore(make(added=False).state)


class Odd(torch.nn.Module):
    """Parameters and buffers of every shape and place."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        shared = torch.full((4,), fill).share_memory_()
        for name, tensor in {
            "scalar": torch.tensor(fill),
            "empty": torch.zeros(0, 3),
            "complex": torch.full((2, 2), complex(fill, -fill)),
            "turned": torch.full((3, 5), fill).t(),
            "every second": torch.full((8,), fill)[::2],
            "shared": shared,
            "halves": torch.full((3,), fill, dtype=torch.float16),
            "doubles": torch.full((3,), fill, dtype=torch.float64),
        }.items():
            self.register_parameter(name, torch.nn.Parameter(tensor))
        self.register_buffer("count", torch.tensor(int(fill)))
        self.register_buffer("mask", torch.tensor([fill > 0, fill < 0]))
        self.register_buffer("tiny", torch.full((3,), fill).to(torch.float8_e4m3fn))
        self.register_buffer("hidden", torch.full((2,), fill), persistent=False)
        self.register_buffer("none", None)


def test_tensors_of_every_shape_and_place(quick_path: Path) -> None:
    saved = Odd(3.0)
    state = perdure.State(model=saved, optimizer=optim.SGD(saved.parameters(), lr=0.0))
    with perdure.Checkpointer(quick_path) as ckpt:
        ckpt.save(1, state, force=True)
        ckpt.wait()
        assert perdure.verify(quick_path / "checkpoint-1").ok
        fresh = Odd(-1.0)
        places = {name: tensor.data_ptr() for name, tensor in fresh.named_parameters()}
        assert ckpt.restore(perdure.State(model=fresh, optimizer=optim.SGD(fresh.parameters(), lr=0.0))) == 1
    expected = {**dict(saved.named_parameters()), **dict(saved.named_buffers())}
    found = {**dict(fresh.named_parameters()), **dict(fresh.named_buffers())}
    for name, tensor in expected.items():
        assert torch.equal(found[name].to(torch.complex64), tensor.to(torch.complex64)), name
    assert {name: tensor.data_ptr() for name, tensor in fresh.named_parameters()} == places


class Holding:
    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"inner": [{"held": self.value}]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["inner"][0]["held"]


REFUSED: dict[str, Any] = {
    "sparse": torch.eye(3).to_sparse(),
    "compressed": torch.eye(3).to_sparse_csr(),
    "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "nowhere": torch.empty(2, device="meta"),
    "an object": object(),
    "a generator": (number for number in range(3)),
    "a lock": threading.Lock(),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_no_file_can_hold_is_refused_by_name(what: str, quick_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    state = perdure.State(model=model, tracker=Holding(REFUSED[what]))
    with perdure.Checkpointer(quick_path / "run") as ckpt:
        with pytest.raises(perdure.InvalidInput, match=r"tracker.*inner\.0\.held"):
            ckpt.save(1, state, force=True)
        assert perdure.checkpoints(quick_path / "run") == ()
        state.components["tracker"].value = (1, {2.5: b"x"}, torch.arange(3), float("inf"), 2**80)
        assert ckpt.save(1, state, force=True), "and training goes on"
        fresh = perdure.State(model=model, tracker=Holding(None))
        assert ckpt.restore(fresh) == 1
    one, other, numbers, *rest = fresh.components["tracker"].value
    assert (one, other, numbers.tolist(), rest) == (1, {2.5: b"x"}, [0, 1, 2], [float("inf"), 2**80])
