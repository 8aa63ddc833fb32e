"""The place of a DataLoader: whatever the sampler, the workers and the dataset, resumed batches are the same."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, RandomSampler, get_worker_info

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
        return (info.id, 24, info.num_workers) if info else (0, 24, 1)


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
    "stream": lambda: DataLoader(Stream(), batch_size=4),
    "stream, 2 workers": lambda: DataLoader(Stream(), batch_size=4, num_workers=2),
    "stateful stream": lambda: DataLoader(Stateful(), batch_size=4),
    "stateful stream, 2 workers": lambda: DataLoader(Stateful(), batch_size=4, num_workers=2),
}


MOMENTS = [
    pytest.param(case, taken, id=f"{case} at {taken}")
    for case in CASES
    # With workers: before each of them had a batch, within an epoch, after its last batch, and in the next.
    for taken in ((1, 4, 6, 8) if "workers" in case else (1, 5, 6, 7, 13))
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
