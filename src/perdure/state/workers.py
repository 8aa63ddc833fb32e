"""What a data loader's workers tell of themselves with every batch, and how their successors take it up.

A worker draws from generators of its own, and an iterable dataset has its own place in each. Batches are fetched ahead
of training, so the state that belongs to a batch must travel with it: it is noted right after the batch was made. So
is the state of an iterable dataset in the training process itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from perdure.state import rng
from perdure.state.holdings import Held, Holdings, has_state
from perdure.state.streams import is_shuffled, is_stream


@dataclass(frozen=True, slots=True)
class Note:
    """One worker right after a batch: which it was, its generators, where its dataset stood, and what else it holds.

    `rng` and `held` are None for a loader without workers, whose generators are the run's own; `dataset` is None where
    the dataset has no state to tell. `ended` says that it had no more samples for this epoch, which its state need not.
    """

    role: int
    rng: dict[str, Any] | None
    dataset: Any
    held: Held | None = None
    ended: bool = False


def tells(dataset: object) -> bool:
    """Whether a dataset can go on from what it tells of itself, with exactly the samples that come next."""
    return not is_shuffled(dataset) if is_stream(dataset) else has_state(dataset)


def state_of(dataset: object) -> Any:
    """A dataset's state as it is now, or None where it tells none; later changes do not reach it."""
    return copy.deepcopy(dataset.state_dict()) if tells(dataset) else None  # type: ignore[attr-defined]


def holdings_of(dataset: object, collate: object, first: Mapping[str, Mapping[str, Any]] | None = None) -> Holdings:
    """What a dataset without a state to tell holds, and a collate function.

    Args:
        first: As for `Holdings`.
    """
    return Holdings({"dataset": None if has_state(dataset) else dataset, "collate_fn": collate}, first)


@dataclass(frozen=True)
class Noting:
    """A collate function that adds a `Note` to every batch that it makes.

    Args:
        dataset: The loader's.
        first: As for `Holdings`.
        full: How many samples a batch has, unless an iterable dataset came to its end.
        over: What workers noted whose datasets had come to their end; these go on with the next epoch.
    """

    collate: Callable[[Any], Any]
    dataset: Any
    first: Mapping[str, Mapping[str, Any]]
    full: int
    over: dict[int, Note] = field(default_factory=dict)

    def __call__(self, samples: Any) -> tuple[Any, Note]:
        info = get_worker_info()
        if info is not None and (note := self.over.pop(info.id, None)):
            _take_up(note, info.dataset, self.collate)
            raise StopIteration  # as the fetcher does that knows of its dataset's end
        ended = len(samples) < self.full if self.full else False
        batch = self.collate(samples)
        if info is None:
            return batch, Note(0, None, state_of(self.dataset), None, ended)
        held = holdings_of(info.dataset, self.collate, self.first).state()
        return batch, Note(info.id, _packed(rng.cpu_state()), state_of(info.dataset), held, ended)


@dataclass(frozen=True)
class Succession:
    """A worker's first act: it takes up the role of a worker of the interrupted run.

    Batches come from the workers in turn, and a new loader begins with its first worker; so the roles are turned
    until that is the one whose batch comes next.
    """

    then: Callable[[int], None] | None
    collate: Callable[[Any], Any]
    first: int
    notes: Mapping[int, Note]

    def __call__(self, worker_id: int) -> None:
        info = get_worker_info()
        assert info is not None
        role = (worker_id + self.first) % info.num_workers
        object.__setattr__(info, "id", role)  # datasets divide their samples by it
        if self.then is not None:
            self.then(role)
        if (note := self.notes.get(role)) and not note.ended:
            _take_up(note, info.dataset, self.collate)


def _take_up(note: Note, dataset: Any, collate: object) -> None:
    if note.rng is not None:
        rng.set_cpu_state(unpacked(note.rng))
    if note.dataset is not None:
        dataset.load_state_dict(note.dataset)
    if note.held is not None:
        holdings_of(dataset, collate).restore(note.held)


def _packed(state: dict[str, Any]) -> dict[str, Any]:
    """Generators' state as few bytes objects: cheap to send from process to process, where tensors take a file each."""
    numpy = state["numpy"]
    if numpy["bit_generator"] == "MT19937":
        numpy = {**numpy, "state": {**numpy["state"], "key": numpy["state"]["key"].tobytes()}}
    return {
        "python": rng.packed(state["python"]),
        "numpy": numpy,
        "torch": state["torch"].numpy().tobytes(),
    }


def unpacked(state: dict[str, Any]) -> dict[str, Any]:
    """What `rng.set_cpu_state` takes, from what a note holds."""
    numpy = state["numpy"]
    if numpy["bit_generator"] == "MT19937":
        key = np.frombuffer(numpy["state"]["key"], np.uint32)
        numpy = {**numpy, "state": {**numpy["state"], "key": key}}
    return {
        "python": rng.unpacked(state["python"]),
        "numpy": numpy,
        "torch": torch.frombuffer(bytearray(state["torch"]), dtype=torch.uint8),
    }
