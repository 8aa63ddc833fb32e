"""Loaders of accelerate and torchdata, and what State refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import datasets
import pytest
import torch
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

import perdure

Batches = list[list[float]]


def data() -> TensorDataset:
    return TensorDataset(torch.arange(22.0))


def train(loader: Any, count: int, ckpt: Any = None, state: Any = None) -> Batches:
    """What each step saw: its batch, and what it drew itself."""
    seen: Batches = []
    while len(seen) < count:
        for batch in loader:
            samples = batch["x"] if isinstance(batch, dict) else batch[0]
            seen.append([*samples.tolist(), *torch.rand(2).tolist()])
            if len(seen) == count:
                if ckpt is not None:
                    ckpt.save(count, state, force=True)
                break
    return seen


def resumes_the_same(make: Any, taken: int, folder: Path) -> None:
    torch.manual_seed(3)
    loader = make()
    perdure.State(loader=loader)  # without it, an iterator made to tell a state is the first that is gone through
    uninterrupted = train(loader, 14)
    torch.manual_seed(3)
    loader = make()
    state = perdure.State(loader=loader)
    with perdure.Checkpointer(folder) as ckpt:
        assert train(loader, taken, ckpt, state) == uninterrupted[:taken]
    torch.manual_seed(3)
    loader = make()
    state = perdure.State(loader=loader)
    torch.manual_seed(77)
    with perdure.Checkpointer(folder) as ckpt:
        assert ckpt.restore(state) == taken
    assert train(loader, 14 - taken) == uninterrupted[taken:]


@pytest.mark.parametrize(
    ("taken", "workers", "stateful"),
    [(taken, workers, False) for taken in (1, 4, 6, 8, 12) for workers in (0, 2)] + [(4, 0, True), (6, 2, True)],
)
def test_accelerate(taken: int, workers: int, stateful: bool, tmp_path: Path) -> None:
    def make() -> Any:
        config = DataLoaderConfiguration(use_stateful_dataloader=stateful)
        accelerator = accelerate.Accelerator(cpu=True, dataloader_config=config)
        return accelerator.prepare(DataLoader(data(), batch_size=4, shuffle=True, num_workers=workers))

    resumes_the_same(make, taken, tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [1, 6, 8])
def test_torchdata(taken: int, workers: int, tmp_path: Path) -> None:
    def make() -> Any:
        sampler = SubsetRandomSampler(range(22)) if taken == 8 else None  # it tells no state
        loader: Any = StatefulDataLoader(
            data(), batch_size=4, shuffle=sampler is None, sampler=sampler, num_workers=workers
        )
        if taken == 1:
            loader.state_dict()  # which makes its first iterator
        return loader

    resumes_the_same(make, taken, tmp_path)


@pytest.mark.parametrize("taken", [3, 6, 8])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffled", [False, True])
def test_streams_of_hugging_face(shuffled: bool, workers: int, taken: int, tmp_path: Path) -> None:
    def make() -> Any:
        stream = datasets.Dataset.from_dict({"x": list(range(22))}).to_iterable_dataset(num_shards=2)
        stream = stream.shuffle(seed=3, buffer_size=7) if shuffled else stream
        return DataLoader(
            stream.with_format("torch"), 4, num_workers=workers, persistent_workers=taken == 8 and workers > 0
        )

    resumes_the_same(make, taken, tmp_path)


@pytest.mark.parametrize("begun", [False, True])
def test_a_stream_resumes_in_its_epoch(begun: bool, tmp_path: Path) -> None:
    def make(epoch: int) -> tuple[Any, perdure.State]:
        stream = datasets.Dataset.from_dict({"x": list(range(8))}).to_iterable_dataset(num_shards=2)
        loader: Any = DataLoader(stream.shuffle(seed=3, buffer_size=4).with_format("torch"), 4)
        loader.dataset.set_epoch(epoch)
        return loader, perdure.State(loader=loader)

    loader, state = make(2)
    with perdure.Checkpointer(tmp_path) as ckpt:
        train(loader, 1 + begun, ckpt, state)
        rest = train(make(3)[0], 2) if begun else [[batch["x"].tolist() for batch in make(2)[0]][1]]
        loader, state = make(0)
        ckpt.restore(state)
        if begun:
            loader.dataset.set_epoch(3)
        assert [seen[:4] for seen in train(loader, 1 + begun)] == [seen[:4] for seen in rest]


def test_an_iterator_that_was_begun_before_the_restore_goes_on_from_the_place(tmp_path: Path) -> None:
    torch.manual_seed(3)
    loader = DataLoader(data(), batch_size=4, shuffle=True)
    state = perdure.State(loader=loader)
    with perdure.Checkpointer(tmp_path) as ckpt:
        iterator = iter(loader)
        next(iterator), next(iterator)
        ckpt.save(2, state, force=True)
        ckpt.wait()
        expected = [batch.tolist() for (batch,) in iterator]
        again = iter(loader)
        next(again)
        ckpt.restore(state)
        assert [batch.tolist() for (batch,) in again] == expected


def test_another_data_set_or_batch_size_is_refused(tmp_path: Path) -> None:
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(2, perdure.State(loader=DataLoader(data(), batch_size=4)), force=True)
        with pytest.raises(perdure.StateMismatch, match="loader: batch_size was 4, and is 2"):
            ckpt.restore(perdure.State(loader=DataLoader(data(), batch_size=2)))
        with pytest.raises(perdure.StateMismatch, match="loader: samples was 22, and is 5"):
            ckpt.restore(perdure.State(loader=DataLoader(TensorDataset(torch.arange(5)), batch_size=4)))


def test_batches_in_any_order_are_refused() -> None:
    with pytest.raises(perdure.InvalidInput, match="in_order"):
        perdure.State(loader=DataLoader(data(), num_workers=1, in_order=False))


@pytest.mark.parametrize("epoch", [2, 0])
def test_a_sampler_that_was_set_to_another_epoch_is_told_of(
    epoch: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def make() -> tuple[Any, perdure.State]:
        sampler = torch.utils.data.DistributedSampler(data(), num_replicas=2, rank=1)
        loader: Any = DataLoader(data(), batch_size=4, sampler=sampler)
        return loader, perdure.State(loader=loader)

    loader, state = make()
    loader.sampler.set_epoch(2)
    with perdure.Checkpointer(tmp_path) as ckpt:
        train(loader, 1, ckpt, state)
    loader, state = make()
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.restore(state)
        loader.sampler.set_epoch(epoch)
        train(loader, 1)
    assert ("interrupted in epoch 2" in caplog.text) == (epoch == 0)
