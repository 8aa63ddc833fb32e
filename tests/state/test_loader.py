"""The place of a DataLoader: whatever the sampler, the workers and the dataset, resumed batches are the same."""

from __future__ import annotations

import gc
import json
import multiprocessing
import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    get_worker_info,
)

from perdure.state import loader, rng
from perdure.state.tree import decode, encode


class Numbers(Dataset[list[float]]):
    """Samples with random transforms drawn from all three global generators."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> list[float]:
        return [float(index), random.random(), float(np.random.rand()), float(torch.rand(()))]


class Stream(IterableDataset[list[float]]):
    """Samples in order, without a state."""

    def __iter__(self) -> Iterator[list[float]]:
        for index in range(*self._mine()):
            yield [float(index)]

    def _mine(self) -> tuple[int, int, int]:
        info = get_worker_info()
        return (info.id, 22, info.num_workers) if info else (0, 22, 1)


class Stateful(Stream):
    """Samples with random transforms, and a state: a resumed stream goes on where it was, a new pass starts over."""

    def __init__(self) -> None:
        self.at: int | None = None

    def __iter__(self) -> Iterator[list[float]]:
        begin, end, step = self._mine()
        for index in range(begin if self.at is None else self.at, end, step):
            self.at = index + step
            yield [float(index), float(torch.rand(()))]
        self.at = None

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"]


class OwnOrder(Sampler[list[int]]):
    """Batches of any size, drawn one by one from generators of its own, the second made when it is first used."""

    def __init__(self) -> None:
        self.sizes = random.Random(5)
        self.order: Any = None
        self.epochs = 0

    def __iter__(self) -> Iterator[list[int]]:
        self.epochs += 1
        self.order = self.order or np.random.default_rng(self.epochs)
        left = [*self.order.permutation(23).tolist(), self.epochs]
        while left:
            size = self.sizes.choice([2, 6])
            yield left[:size]
            left = left[size:]

    def __len__(self) -> int:
        return 6


class OwnNoise(Numbers):
    """Samples that draw from the generator of a transform, and count."""

    def __init__(self) -> None:
        self.noise = partial(np.random.RandomState.rand, np.random.RandomState(3))
        self.count = 0

    def __getitem__(self, index: int) -> list[float]:
        self.count += 1
        return [*super().__getitem__(index), float(self.noise()), self.count]


class Told(OwnOrder):
    """A sampler that tells its state."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [self.sizes]
        del self.sizes

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "sizes": self.hidden[0].getstate()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs = state["epochs"]
        self.hidden[0].setstate(state["sizes"])

    def __iter__(self) -> Iterator[list[int]]:
        self.epochs += 1
        for index in self.hidden[0].sample(range(23), 23):
            yield [index]
            yield [self.hidden[0].randrange(self.epochs)]


def train(batches: DataLoader[Any], count: int) -> list[Any]:
    """Batches of `count` steps, over as many epochs as it takes; each step draws, as dropout does."""
    seen: list[Any] = []
    while len(seen) < count:
        for batch in batches:
            seen.append([[float(value) for value in column] for column in batch])
            torch.rand(3)
            random.random()
            if len(seen) == count:
                break
    return seen


def through_json(state: dict[str, Any]) -> Any:
    document, tensors = encode(state, "loader")
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    return decode(json.loads(json.dumps(document)), lambda name, device: kept[name])


CASES: dict[str, Callable[[], DataLoader[Any]]] = {
    "shuffled": lambda: DataLoader(Numbers(), batch_size=4, shuffle=True),
    "in order": lambda: DataLoader(Numbers(), batch_size=4),
    "drop last": lambda: DataLoader(Numbers(), batch_size=4, shuffle=True, drop_last=True),
    "own generator": lambda: DataLoader(
        Numbers(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(5)
    ),
    "sampler with replacement": lambda: DataLoader(
        Numbers(),
        batch_size=4,
        sampler=RandomSampler(Numbers(), replacement=True, generator=torch.Generator().manual_seed(5)),
    ),
    "distributed sampler": lambda: DataLoader(
        Numbers(), batch_size=2, sampler=DistributedSampler(Numbers(), 2, 0, seed=3)
    ),
    "2 workers": lambda: DataLoader(Numbers(), batch_size=4, shuffle=True, num_workers=2),
    "2 workers, own generator": lambda: DataLoader(
        Numbers(), batch_size=4, shuffle=True, num_workers=2, generator=torch.Generator().manual_seed(5)
    ),
    "2 persistent workers": lambda: DataLoader(
        Numbers(), batch_size=4, shuffle=True, num_workers=2, persistent_workers=True
    ),
    "generators of its own": lambda: DataLoader(OwnNoise(), batch_sampler=OwnOrder()),
    "sampler with a state": lambda: DataLoader(Numbers(), batch_sampler=Told()),
    "generators of its own, 2 persistent workers": lambda: DataLoader(
        OwnNoise(), batch_sampler=OwnOrder(), num_workers=2, persistent_workers=True
    ),
    "stream": lambda: DataLoader(Stream(), batch_size=4),
    "stream, 2 workers": lambda: DataLoader(Stream(), batch_size=4, num_workers=2),
    "stateful stream": lambda: DataLoader(Stateful(), batch_size=4),
    "stateful stream, 2 workers": lambda: DataLoader(Stateful(), batch_size=4, num_workers=2),
    "stateful stream, 2 persistent workers": lambda: DataLoader(
        Stateful(), batch_size=4, num_workers=2, persistent_workers=True
    ),
}


MOMENTS = [
    pytest.param(case, taken, id=f"{case} at {taken}")
    for case in CASES
    # With workers: before each of them had a batch, within an epoch, after its last batch, and in the next.
    for taken in ((1, 3, 6, 9) if "workers" in case else (1, 5, 6, 7, 13))
]


@cache
def uninterrupted(case: str) -> list[Any]:
    seed(7)
    return train(CASES[case](), 15)


@pytest.mark.parametrize(("case", "taken"), MOMENTS)
def test_resumed_batches_are_the_same(case: str, taken: int) -> None:
    seed(7)
    first = CASES[case]()
    begun, place, generators = train_and_look(first, taken, loader.track(first))
    assert begun == uninterrupted(case)[:taken], "counting changes nothing"

    seed(99)
    second = CASES[case]()
    loader.track(second).load_state_dict(place)
    rng.set_state(generators)
    assert train(second, 15 - taken) == uninterrupted(case)[taken:]


@pytest.mark.parametrize("trainer", [False, True])
def test_persistent_workers_go_on_where_a_run_was_interrupted_between_two_epochs(trainer: bool) -> None:
    case = "2 persistent workers"
    seed(7)
    first = CASES[case]()
    place = loader.track(first)
    if trainer:  # it saves within the loop, and begins the next epoch by itself
        _, saved, generators = train_and_look(first, 6, place)
    else:
        for _ in first:
            torch.rand(3)
            random.random()
        saved, generators = through_json(place.state_dict()), through_json(rng.state())

    seed(99)
    second = CASES[case]()
    loader.track(second).load_state_dict(saved)
    if trainer:
        loader.track(second).forgo()
    rng.set_state(generators)
    assert train(second, 9) == uninterrupted(case)[6:]


def test_workers_end_when_others_take_their_place_and_with_their_loader() -> None:
    gc.disable()  # it would end them too, at any moment and in any thread
    try:
        before = set(multiprocessing.active_children())
        batches = CASES["2 persistent workers"]()
        place = loader.track(batches)
        held = iter(batches)
        next(held)
        first = set(multiprocessing.active_children()) - before
        place.load_state_dict(place.state_dict())
        for _ in batches:
            alive = set(multiprocessing.active_children()) - before
        assert len(first) == len(alive) == 2
        assert not first & alive
        del held, batches
        assert not set(multiprocessing.active_children()) - before
    finally:
        gc.enable()


def train_and_look(batches: DataLoader[Any], count: int, place: Any) -> tuple[list[Any], Any, Any]:
    seen: list[Any] = []
    while True:
        for batch in batches:
            seen.append([[float(value) for value in column] for column in batch])
            torch.rand(3)
            random.random()
            if len(seen) == count:
                return seen, through_json(place.state_dict()), through_json(rng.state())


def seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


class InPlace(Sampler[int]):
    """Shuffles one list over and over, and draws from a global generator for each entry."""

    def __init__(self) -> None:
        self.order = list(range(8))

    def __iter__(self) -> Iterator[int]:
        for number in range(8):
            self.order.insert(0, self.order.pop(random.randrange(number, 8)))
            yield self.order[0]


def test_a_sampler_whose_state_cannot_be_kept_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    seed(1)
    batches: DataLoader[Any] = DataLoader(Numbers(), sampler=InPlace(), batch_size=None)
    loader.track(batches)
    for _ in range(3):
        assert len(list(batches)) == 8
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "InPlace draws from the global generator of random " in told[0]
    assert "loader.sampler.order was changed in place" in told[1]


class Large(Numbers):
    """Holds more than is looked through."""

    def __init__(self) -> None:
        self.parts = [[random.Random(number) for number in range(30)] for _ in range(30)]


def test_what_holds_too_much_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    batches = DataLoader(Large(), batch_size=None)
    loader.track(batches)
    for _ in range(3):
        assert len(list(batches)) == 23
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("dataset holds more than the 256 objects")
    assert "If dataset.parts." in told


def test_samplers_that_need_no_warning_get_none(caplog: pytest.LogCaptureFixture) -> None:
    for case in ("shuffled", "sampler with replacement", "generators of its own"):
        batches = CASES[case]()
        loader.track(batches)
        train(batches, 14)
    assert not caplog.records
