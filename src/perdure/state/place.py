"""Where a data loader stands in its data: what is recorded of an epoch, and how it is begun again.

What draws in worker processes, and iterable datasets that tell their state, go on from the notes that came with their
last batches (`perdure.state.workers`). An iterable dataset that does not is read again up to the place. Of what
samplers, dataset and collate function hold besides, `perdure.state.holdings` keeps what it finds.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from torch.utils.data import IterableDataset

from perdure.state import rng
from perdure.state.holdings import Held, Holdings, Weak
from perdure.state.source import Fetched, Skipping, Source, index_sampler
from perdure.state.streams import is_stream
from perdure.state.watch import Containers, Draws
from perdure.state.workers import Note, Noting, Succession, state_of, tells

_log = logging.getLogger("perdure")


class Place:
    """Where one loader stands: `state_dict` tells it, `load_state_dict` has the next batch be the one after it."""

    def __init__(self, loader: Any) -> None:
        inner: Any = getattr(loader, "base_dataloader", loader)  # accelerate's wrapper fetches one batch ahead
        # The loader has its place. If that had the loader, too, whoever drops a loader would leave its workers to the
        # garbage collector, which may come by in the thread that tells them to go, and wait for it.
        self._loader, self._inner = Weak(loader), Weak(inner)
        self.skipping: Skipping | None = None
        self.pending: dict[str, Any] | None = None
        self.runs_on = True  # a restored loop that finds no batch left goes on with the next epoch
        self.queue: deque[Fetched] = deque()  # batches fetched and not yet taken
        self._resuming: dict[str, Any] | None = None
        self._begin: dict[str, Any] | None = None
        self._taken = 0
        self._last = -1
        self._notes: dict[int, Note] = {}
        self._succeeds = False  # the next epoch needs new workers, in the place of persistent ones
        dataset = inner.dataset
        self._iterable, self._stream = isinstance(dataset, IterableDataset), is_stream(dataset)
        self._started = False  # the stream was given where to start
        # Persistent workers would begin each later epoch where such a stream was started.
        lasting = self._stream and inner.persistent_workers
        self._notes_tell = self._iterable and tells(dataset) and not lasting
        self._order = Holdings({"loader": self._loader, "inner": self._inner}, apart=(dataset,))
        self._data = Holdings({"dataset": None if self._notes_tell else dataset, "collate_fn": inner.collate_fn})
        self._draws, self._containers = Draws(index_sampler(inner)), Containers(self._order)

    @property
    def loader(self) -> Any:
        """What training iterates."""
        return self._loader()

    @property
    def inner(self) -> Any:
        """The DataLoader in it, or that itself."""
        return self._inner()

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
            "ahead": self.queue[0].before if self.queue else None,
            "dataset": state_of(self.inner.dataset) if self._begin is None and self._tells_between else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state` with the next batch, in a loop over the loader begun later or already."""
        self._begin, self._taken, self._last = state["begin"], state["taken"], state["last"]
        self._notes = _notes(state["notes"])
        self._put(state["begin"] or state["now"])
        if state.get("dataset") is not None:
            self.inner.dataset.load_state_dict(state["dataset"])
        self.pending = state if state["begin"] is not None else None
        self._succeeds = self.pending is None and self._lasting

    def forgo(self) -> None:
        """Of a restored place keep the generators and counters, and begin a new epoch with the next loop."""
        if self.pending is not None:
            self._put(self.pending["now"])
            self._succeeds = self._lasting
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
        if self.pending is not None and self._stream:
            epoch, now = int(self.inner.dataset.epoch), self.pending["now"]["counters"]
            if now.get("dataset", {}).get("epoch", epoch) != epoch:  # the program goes on with another
                self.forgo()
                self.inner.dataset.set_epoch(epoch)
        if self.pending is not None:
            self._resuming, self.pending = self.pending, None
            return open_()
        # Persistent workers go on from where they ended the epoch before.
        left = self._notes.values() if self.inner.persistent_workers else ()
        self._notes = {
            note.role: Note(note.role, note.rng, note.dataset if note.ended and self._notes_tell else None, note.held)
            for note in left
        }
        again = self.inner.persistent_workers and (self._succeeds or self.inner._iterator is not None)
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
        if getattr(self.inner, "_initial_iter_for_state_dict", False):  # torchdata's made one just to tell its state
            self.inner._iterator, self.inner._initial_iter_for_state_dict = None, False
        iterable = self._iterable
        if self._started:
            self.inner.dataset.load_state_dict({})  # it would start each later pass there
            self._started = False
        if resuming is None:
            # Only now: accelerate has just given all ranks the sampler's generator of the first, and set its epoch.
            self._begin = {**(self._begin or {}), "rng": rng.cpu_state(), **self._moment()}
            self._containers.look()
            if not self._succeeds:
                self.skipping = None if iterable else Skipping(index_sampler(self.inner), self._draws)
                return self._opened(iterate, 0, {})
        begin: dict[str, Any] = (resuming["begin"] if resuming is not None else self._begin) or {}
        takes_up = self._can_take_up()
        if takes_up and self._notes_tell and not self.inner.num_workers:
            self.inner.dataset.load_state_dict(self._notes[0].dataset)
            self._started = self._stream
            if self._notes[0].ended:
                iterate = lambda: iter(())  # noqa: E731
        first, notes = (self._last + 1, self._notes) if takes_up else (0, _notes(begin["notes"]))
        if self.inner.persistent_workers:
            self._end_workers()
            self._succeeds = first % self.inner.num_workers != 0  # torch begins each epoch with its own first worker
        if not iterable and self._taken < len(index_sampler(self.inner)):
            self._check_epoch(begin["counters"])

        def rewind() -> None:
            rng.set_cpu_state(begin["rng"])
            self._order.restore(begin, only_generators=True)
            self._data.restore(begin, only_generators=True)

        # An epoch that persistent workers began anew drew no seed for them, as new workers will.
        rewinds = rewind if begin["again"] else None
        skipping = Skipping(index_sampler(self.inner), self._draws, self._taken if takes_up else 0, rewinds)
        self.skipping = None if iterable else skipping
        now = rng.cpu_state()
        rewind()
        source = self._opened(iterate, first, notes)
        if iterable and rewinds is not None:  # nothing is skipped, and nothing drawn but that seed
            rewind()
        skipping.force()
        if resuming is not None:
            for _ in range(0 if takes_up else self._taken):
                if next(source, self) is not self:  # unless there are fewer now
                    self.queue.popleft()
            source.ahead = resuming.get("ahead")
            rng.set_cpu_state(now)
            self._go_on(resuming["now"], source.ahead)
        return source

    def _opened(self, iterate: Callable[[], Iterator[Any]], first: int, notes: dict[int, Note]) -> Source:
        # accelerate fetches a batch ahead of training; its source must tell what that batch depended on.
        moment = self._before if self.inner is not self.loader and not self.inner.num_workers else None
        try:
            noted = bool(self.inner.num_workers) or self._notes_tell
            iterator = self._iterate(iterate, first, notes) if noted else iterate()
            return Source(iterator, noted, self.queue, moment)
        finally:
            self.skipping = None

    def _end_workers(self) -> None:
        """Persistent ones would go on from where they are; and stay, if only left, while anybody has their loop."""
        iterator, self.inner._iterator = self.inner._iterator, None
        if iterator is not None:
            iterator._shutdown_workers()

    def _before(self) -> dict[str, Any]:
        return {**rng.cpu_state(), "held": self._moment()}

    def _go_on(self, now: Held, ahead: dict[str, Any] | None) -> None:
        """What samplers and dataset hold, as it was before the next batch was fetched."""
        if self.inner.num_workers:  # these fetch ahead; samplers are right where the replay of their epoch left them
            self._data.restore(now)
            return
        exact = ahead.get("held", now) if ahead is not None else now
        self._order.restore(exact, only_generators=True)
        self._data.restore(exact)

    def _check_epoch(self, counters: dict[str, dict[str, int]]) -> None:
        """Samplers shuffle by an epoch that the program sets, and it may have set another since we restored it."""
        here = self._order.state()["counters"]
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
        collate, init = inner.collate_fn, inner.worker_init_fn
        full = (inner.batch_size or 0) if self._iterable else 0
        over = {role: note for role, note in notes.items() if note.ended}
        inner.collate_fn = Noting(collate, inner.dataset, self._data.first, full, over)
        inner.worker_init_fn = Succession(init, collate, first, notes)
        try:
            return iterate()
        finally:
            inner.collate_fn, inner.worker_init_fn = collate, init

    def _can_take_up(self) -> bool:
        """Whether the place can be reached without loading again what was loaded before it."""
        iterable, workers = self._iterable, self.inner.num_workers
        if iterable and not self._notes_tell:
            return False
        noted = all(role in self._notes for role in range(workers or iterable))
        return noted and not (iterable and any(note.dataset is None for note in self._notes.values()))

    def next_epoch(self) -> None:
        """The restored epoch had no batch left, and accelerate counts an epoch only when it saw its last batch."""
        self.end()
        if self.inner is not self.loader and "iteration" in vars(self.loader):
            self.loader.iteration += 1

    @property
    def _tells_between(self) -> bool:
        """Whether the dataset's state means something between two epochs, too; streams start over."""
        return self._notes_tell and not self._stream

    @property
    def _lasting(self) -> bool:
        """Whether workers of an epoch before would serve the next one, too."""
        return bool(self.inner.persistent_workers and self._notes)

    def _moment(self) -> Held:
        order, data = self._order.state(), self._data.state()
        moment = {kind: {**order[kind], **data[kind]} for kind in order}
        if self._stream:
            moment["counters"]["dataset"] = {"epoch": int(self.inner.dataset.epoch)}
        return moment

    def _put(self, moment: Held) -> None:
        if self._stream and (told := moment["counters"].get("dataset")):
            self.inner.dataset.set_epoch(told["epoch"])
        self._order.restore(moment)
        self._data.restore(moment)


def _listed(notes: dict[int, Note]) -> list[Any]:
    return [[note.role, note.rng, note.dataset, note.held, note.ended] for note in notes.values()]


def _notes(saved: list[Any]) -> dict[int, Note]:
    return {role: Note(role, *rest) for role, *rest in saved}
