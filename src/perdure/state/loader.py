"""Make an ordinary `torch.utils.data.DataLoader` tell its place, so that a resumed run sees the same batches.

A DataLoader does not tell its place, and its order hangs on random numbers drawn when an epoch begins. So an epoch's
first moment is recorded (global generators, those of loader and samplers, epoch counters), and batches are counted as
training takes them. To resume, the epoch is begun again from that moment, the index sampler is moved on without
loading anything, and the generators are put where they were (`perdure.state.place`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from perdure.state.place import Place
from perdure.state.source import index_sampler


def is_ordinary(loader: object) -> bool:
    """Whether `loader` is a DataLoader, bare or wrapped by accelerate, whose place is told by counting.

    torchdata's is one, too: its own state leaves out what workers draw, and loading it draws from the generators.
    """
    inner = getattr(loader, "base_dataloader", loader)
    return isinstance(inner, DataLoader) and (not hasattr(inner, "state_dict") or _is_torchdata(inner))


def _is_torchdata(loader: object) -> bool:
    return any(kind.__module__.partition(".")[0] == "torchdata" for kind in type(loader).__mro__)


def track(loader: Any) -> Place:
    """Make a DataLoader count what training takes from it. Doing so twice changes nothing more."""
    place = vars(loader).get("_perdure_place")
    if place is None:
        place = vars(loader)["_perdure_place"] = Place(loader)
        if place.inner is not loader:
            vars(place.inner)["_perdure_place"] = place
            _become(place.inner, _source_class(type(place.inner)))
        _become(loader, _counting_class(type(loader), place.inner is loader))
    assert isinstance(place, Place)
    return place


class _Taken:
    """What training iterates: counts the batches that it takes."""

    def __init__(self, place: Place, open_: Callable[[], Iterator[Any]]) -> None:
        self._place = place
        self._open = open_
        self._resumed = place.pending is not None and place.runs_on
        self._iterator = place.begin(open_)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        place = self._place
        if place.pending is not None:  # restored while this loop was under way
            self._resumed, self._iterator = True, place.begin(self._open)
        try:
            batch = self._fetch()
        except StopIteration:
            place.end()
            raise
        place.take()
        return batch

    def _fetch(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            if not self._resumed:
                raise
            # The checkpoint was written after an epoch's last batch: the next batch is the first of the next epoch.
            self._place.next_epoch()
            self._iterator = self._place.begin(self._open)
            return next(self._iterator)
        finally:
            self._resumed = False

    def __len__(self) -> int:
        return len(self._place.inner)


# A `for` loop looks `__iter__` up in the class, so to count what it takes the loader's class has to change: to one that
# differs in nothing else. accelerate's wrappers do the same to the loaders they wrap.


def _counting_class(cls: type, is_source: bool) -> type:
    def iterate(self: Any) -> Iterator[Any]:
        place: Place = vars(self)["_perdure_place"]
        base: Callable[[], Iterator[Any]] = partial(cls.__iter__, self)  # type: ignore[attr-defined]
        return _Taken(place, partial(place.source, base) if is_source else base)

    return _subclass(cls, {"__iter__": iterate, **({"_index_sampler": _skipping_sampler} if is_source else {})})


def _source_class(cls: type) -> type:
    def iterate(self: Any) -> Iterator[Any]:
        place: Place = vars(self)["_perdure_place"]
        return place.source(partial(cls.__iter__, self))  # type: ignore[attr-defined]

    return _subclass(cls, {"__iter__": iterate, "_index_sampler": _skipping_sampler})


@property  # type: ignore[misc]
def _skipping_sampler(self: Any) -> Any:
    skipping = vars(self)["_perdure_place"].skipping
    return index_sampler(self) if skipping is None else skipping


def _subclass(cls: type, members: dict[str, Any]) -> type:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**names, **members})


def _become(instance: Any, cls: type) -> None:
    object.__dict__["__class__"].__set__(instance, cls)  # accelerate's wrapper hides its own `__class__`
