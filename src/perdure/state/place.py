"""Where a data loader stands in its data: what is recorded of an epoch, and how it is begun again.

What draws in worker processes, and iterable datasets that have `state_dict`, go on from the notes that came with their
last batches (`perdure.state.workers`). An iterable dataset without it is read again up to the place.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch.utils.data import IterableDataset

from perdure.state import rng
from perdure.state.source import Fetched, Skipping, Source, index_sampler
from perdure.state.workers import Note, Noting, Succession, has_state

_log = logging.getLogger("perdure")
_COUNTERS = ("epoch", "iteration", "initial_seed")  # of loaders and samplers, accelerate's too


class Place:
    """Where one loader stands: `state_dict` tells it, `load_state_dict` has the next batch be the one after it."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.inner: Any = getattr(loader, "base_dataloader", loader)  # accelerate's wrapper fetches one batch ahead
        self.skipping: Skipping | None = None
        self.pending: dict[str, Any] | None = None
        self.runs_on = True  # a restored loop that finds no batch left goes on with the next epoch
        self.queue: deque[Fetched] = deque()  # batches fetched and not yet taken
        self._resuming: dict[str, Any] | None = None
        self._begin: dict[str, Any] | None = None
        self._taken = 0
        self._last = -1
        self._notes: dict[int, Note] = {}

    def state_dict(self) -> dict[str, Any]:
        """The place after the batch that training took last; plain values and tensors."""
        if self.pending is not None:  # restored, and no batch taken since
            return self.pending
        return {
            "about": self.about(),
            "now": self._moment(),
            "begin": self._begin,
            "taken": self._taken,
            "last": self._last,
            "notes": _listed(self._notes),
            "ahead": self.queue[0].rng if self.queue else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state` with the next batch, in a loop over the loader begun later or already."""
        self._begin, self._taken, self._last = state["begin"], state["taken"], state["last"]
        self._notes = _notes(state["notes"])
        self._set_counters((state["begin"] or state["now"])["counters"])
        self._set_generators(state["now"]["generators"])
        self.pending = state if state["begin"] is not None else None

    def forgo(self) -> None:
        """Of a restored place keep the generators and counters, and begin a new epoch with the next loop."""
        self.pending = None
        self.end()

    def about(self) -> dict[str, Any]:
        """What must be the same for a place to mean the same batches."""
        sizes: dict[str, Any] = {"workers": self.inner.num_workers, "batch_size": self.inner.batch_size}
        with suppress(TypeError, NotImplementedError):  # an iterable dataset need not know
            sizes["samples"] = len(self.inner.dataset)
        return sizes

    def begin(self, open_: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """An epoch's iterator: a new epoch, or the restored one from its place on."""
        self.queue.clear()
        if self.pending is not None:
            self._resuming, self.pending = self.pending, None
            return open_()
        # Persistent workers go on from where they ended the epoch before.
        left = self._notes.values() if self.inner.persistent_workers else ()
        self._notes = {note.role: Note(note.role, note.rng, None) for note in left}
        again = self.inner.persistent_workers and self.inner._iterator is not None
        self._begin = {"rng": rng.cpu_state(), "again": again, "notes": _listed(self._notes), **self._moment()}
        self._taken, self._last = 0, -1
        return open_()

    def take(self) -> None:
        """Training takes the batch that was fetched first."""
        self._taken += 1
        note = self.queue.popleft().note if self.queue else None
        if note is not None:
            self._last = note.role
            self._notes[note.role] = note

    def end(self) -> None:
        """The epoch is over."""
        self._begin, self._taken = None, 0

    def source(self, iterate: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """The inner loader's iterator, whose batches bring notes with them; of a restored epoch, from its place on."""
        resuming, self._resuming = self._resuming, None
        if resuming is None:
            # Only now: accelerate has just given all ranks the sampler's generator of the first, and set its epoch.
            self._begin = {**(self._begin or {}), "rng": rng.cpu_state(), **self._moment()}
            return Source(self.inner, self._iterate(iterate, 0, {}), self.queue)
        begin, iterable = resuming["begin"], isinstance(self.inner.dataset, IterableDataset)
        takes_up = self._can_take_up(iterable)
        if takes_up and iterable and not self.inner.num_workers:
            self.inner.dataset.load_state_dict(self._notes[0].dataset)
        first, notes = (self._last + 1, self._notes) if takes_up else (0, _notes(begin["notes"]))
        if self.inner.persistent_workers:
            self.inner._iterator = None  # workers of before would go on from where they are

        if not iterable and self._taken < len(index_sampler(self.inner)):
            self._check_epoch(begin["counters"])

        def rewind() -> None:
            rng.set_cpu_state(begin["rng"])
            self._set_generators(begin["generators"])

        # An epoch that persistent workers began anew drew no seed for them, as new workers will.
        rewinds = rewind if begin["again"] else None
        skipping = Skipping(index_sampler(self.inner), self._taken if takes_up else 0, rewinds)
        self.skipping = None if iterable else skipping
        now = rng.cpu_state()
        rewind()
        try:
            source = Source(self.inner, self._iterate(iterate, first, notes), self.queue)
            skipping.force()
            for _ in range(0 if takes_up else self._taken):
                next(source, None)
                self.queue.popleft()
            source.ahead = resuming.get("ahead")
        finally:
            self.skipping = None
            rng.set_cpu_state(now)
            self._set_generators(resuming["now"]["generators"])
        return source

    def _check_epoch(self, counters: dict[str, dict[str, int]]) -> None:
        """Samplers shuffle by an epoch that the program sets, and it may have set another since we restored it."""
        here = self._moment()["counters"]
        for path, saved in counters.items():
            then, now = saved.get("epoch"), here.get(path, {}).get("epoch")
            if then != now:
                _log.warning(
                    "The run was interrupted in epoch %s of %s, which is now at epoch %s: the batches that follow are "
                    "others. Call set_epoch(%s) before the loop goes on, as set_epoch(step // len(loader)) does.",
                    then, path, now, then,
                )  # fmt: skip

    def _iterate(self, iterate: Callable[[], Iterator[Any]], first: int, notes: dict[int, Note]) -> Iterator[Any]:
        inner = self.inner
        if not inner.num_workers:
            return iterate()
        collate, init = inner.collate_fn, inner.worker_init_fn
        inner.collate_fn, inner.worker_init_fn = Noting(collate), Succession(init, first, notes)
        try:
            return iterate()
        finally:
            inner.collate_fn, inner.worker_init_fn = collate, init

    def _can_take_up(self, iterable: bool) -> bool:
        """Whether the place can be reached without loading again what was loaded before it."""
        workers = self.inner.num_workers
        if iterable and not has_state(self.inner.dataset):
            return False
        noted = all(role in self._notes for role in range(workers or iterable))
        return noted and not (iterable and any(note.dataset is None for note in self._notes.values()))

    def next_epoch(self) -> None:
        """The restored epoch had no batch left, and accelerate counts an epoch only when it saw its last batch."""
        self.end()
        if self.inner is not self.loader and "iteration" in vars(self.loader):
            self.loader.iteration += 1

    def _parts(self) -> Iterator[tuple[str, Any]]:
        waiting, depth = [("loader", self.loader)], 0
        if self.inner is not self.loader:
            waiting.append(("inner", self.inner))
        while waiting and (depth := depth + 1) < 10:
            path, part = waiting.pop(0)
            yield path, part
            for name in ("batch_sampler", "sampler"):
                if (child := vars(part).get(name)) is not None and hasattr(child, "__dict__"):
                    waiting.append((f"{path}.{name}", child))

    def _moment(self) -> dict[str, Any]:
        parts = list(self._parts())
        return {
            "generators": {
                path: part.generator.get_state()
                for path, part in parts
                if isinstance(vars(part).get("generator"), torch.Generator)
            },
            "counters": {
                path: {name: vars(part)[name] for name in _COUNTERS if type(vars(part).get(name)) is int}
                for path, part in parts
            },
        }

    def _set_generators(self, states: dict[str, torch.Tensor]) -> None:
        for path, part in self._parts():
            generator = vars(part).get("generator")
            if path in states and isinstance(generator, torch.Generator):
                generator.set_state(states[path])

    def _set_counters(self, counters: dict[str, dict[str, int]]) -> None:
        for path, part in self._parts():
            saved = counters.get(path, {})
            vars(part).update({name: saved[name] for name in _COUNTERS if type(saved.get(name)) is int})


def _listed(notes: dict[int, Note]) -> list[Any]:
    return [[note.role, note.rng, note.dataset] for note in notes.values()]


def _notes(saved: list[Any]) -> dict[int, Note]:
    return {role: Note(role, *rest) for role, *rest in saved}
