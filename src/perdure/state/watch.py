"""What of a sampler no checkpoint can hold is told, once: a resumed run would silently see other batches."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from perdure.state import rng
from perdure.state.holdings import Holdings

_log = logging.getLogger("perdure")
_LOOKS = 3  # entries of each time that a sampler is gone through
_MOST = 2**22  # items or bytes; what is larger is not looked at


class Draws:
    """Whether a sampler draws from the global generators for single entries, among the draws of training.

    What it draws for its first entry, as an epoch begins, is drawn again when the epoch is resumed.
    """

    def __init__(self, sampler: object) -> None:
        self._name = type(sampler).__name__
        self._told = False

    def watch(self, entries: Iterator[Any]) -> Iterator[Any]:
        """`entries`, of which the first few are looked at."""
        for number in range(_LOOKS):
            before = rng.cpu_state()
            for entry in entries:
                if number and not self._told:
                    self._compare(before, rng.cpu_state())
                yield entry
                break
        yield from entries

    def _compare(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        drawn = {
            "random": before["python"] != after["python"],
            "numpy.random": any(
                not np.array_equal(before["numpy"]["state"][key], after["numpy"]["state"][key])
                for key in before["numpy"]["state"]
            ),
            "torch": not torch.equal(before["torch"], after["torch"]),
        }
        if names := [name for name, yes in drawn.items() if yes]:
            self._told = True
            _log.warning(
                "%s draws from the global generator of %s for each of its entries. If anything else draws from it "
                "during an epoch, a run resumed within one sees other batches. Give the sampler a generator of its "
                "own, as in self.rng = random.Random(seed): it is part of every checkpoint.",
                self._name, " and ".join(names),
            )  # fmt: skip


class Containers:
    """Lists and arrays that samplers change in place from epoch to epoch, such as one that is shuffled again."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._known: dict[str, tuple[Any, int]] = {}
        self._told: set[str] = set()

    def look(self) -> None:
        """Compare with the epoch before; called when one begins."""
        for path, part in self._holdings.parts():
            for name, value in list(getattr(part, "__dict__", {}).items()):
                if (digest := _digest(value)) is not None:
                    self._compare(f"{path}.{name}", value, digest)

    def _compare(self, path: str, value: Any, digest: int) -> None:
        known = self._known.get(path)
        self._known[path] = value, digest
        if known is not None and known[0] is value and known[1] != digest and path not in self._told:
            self._told.add(path)
            _log.warning(
                "%s was changed in place since the last epoch, and is no part of a checkpoint: a resumed run sees "
                "other batches. Make it anew in __iter__, or give its owner state_dict and load_state_dict.",
                path,
            )


def _digest(value: Any) -> int | None:
    try:
        if type(value) in (list, deque) and len(value) <= _MOST:
            return hash(tuple(value))
        if type(value) is torch.Tensor and value.nbytes <= _MOST:
            return hash(value.cpu().numpy().tobytes())
        if type(value) is np.ndarray and value.nbytes <= _MOST:
            return hash(value.tobytes())
    except (TypeError, RuntimeError):  # what it holds cannot be compared
        pass
    return None
