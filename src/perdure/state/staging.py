"""When bytes of live tensors are copied: by the writer while training goes on, or just before training changes them.

The writer takes its bytes straight from live memory. When the next optimizer step is due, `Staging.drain` sees to it
that nothing is still to be taken from there: what is left is copied into memory set aside for it, the last of it first
since the writer works from the front, and what does not fit there is waited for. So memory is bounded and a write that
ends in time costs training nothing.
"""

from __future__ import annotations

import threading
import time

import numpy as np
import torch

from perdure.errors import SaveFailed
from perdure.io.digest import CHUNK
from perdure.io.direct import Extent, copy
from perdure.io.workers import PAGE, make_slab
from perdure.state.device import Fetcher

_ROUND = 64  # bytes: so that copies begin where vector instructions like them to


class Spill:
    """Memory for bytes that must leave their live tensors before they are written; made once, and used again."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._slab = memoryview(b"")
        self._pinned = False
        self._used = 0
        self._lock = threading.Lock()

    def prepare(self, wanted: int, *, pinned: bool) -> None:
        """Have memory for `wanted` bytes, as far as the budget goes, and touched: only then is copying into it fast.

        Args:
            pinned: Devices copy into it while the processor goes on.
        """
        size = min(wanted, self.budget)
        with self._lock:
            if size <= len(self._slab) and self._pinned >= pinned:
                return
            if pinned:
                self._slab = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy().data
            else:
                slab = make_slab(size)
                np.frombuffer(slab, np.uint8)[::PAGE] = 0
                self._slab = slab
            self._pinned = pinned

    def take(self, nbytes: int) -> memoryview | None:
        """Room for `nbytes`, or None when there is no more."""
        begin = self._used
        if begin + nbytes > len(self._slab):
            return None
        self._used = begin + _rounded(nbytes)
        return self._slab[begin : begin + nbytes]

    def clear(self) -> None:
        """All of it is free again."""
        self._used = 0


class Staging:
    """The live tensors of one save, and what of them is still to be taken.

    Args:
        spill: Where `drain` puts what the writer has not got to.

    Attributes:
        free_at: When the last live tensor was free to change (`time.perf_counter`).
    """

    def __init__(self, spill: Spill) -> None:
        self.fetch = Fetcher()
        self._spill = spill
        self._pieces: list[_Piece] = []
        self._changed = threading.Condition()
        self._live = 0
        self._stopped = False
        self._drained = False
        self._torn: str | None = None
        self.taken_bytes = 0  # about: for a progress bar
        self.free_at: float | None = None
        self._versions: list[tuple[str, torch.Tensor, int]] = []

    def extent(self, name: str, tensor: torch.Tensor, *, live: bool) -> Extent:
        """The bytes of a tensor, row-major, for the writer. `live`: training will change them."""
        tensor = tensor.detach()
        self.fetch.expect(tensor)
        nbytes = tensor.numel() * tensor.element_size()
        if live and nbytes:
            self._versions.append((name, tensor, _version(tensor)))
        # Whatever can be left to the writer is: the call holds training up.
        if not _in_order(tensor):
            tensor = tensor.squeeze() if tensor.squeeze().dim() else tensor.reshape(1)
        size = CHUNK if _in_order(tensor) else _row_bytes(tensor) * max(1, CHUNK // _row_bytes(tensor))
        pieces = [_Piece(self, tensor, start, min(size, nbytes - start), live) for start in range(0, nbytes, size)]
        if live:
            self._pieces += pieces
            self._live += len(pieces)

        def read_into(start: int, out: memoryview) -> None:
            done = 0
            while done < len(out):
                number, begin = divmod(start + done, size)
                piece = pieces[number]
                count = min(len(out) - done, piece.nbytes - begin)
                piece.read(begin, out[done : done + count])
                done += count
            self.taken_bytes += len(out)

        return Extent(nbytes, read_into)

    def make_room(self) -> None:
        """Have memory set aside for what the writer will not have got to."""
        self._spill.prepare(sum(_rounded(piece.nbytes) for piece in self._pieces), pinned=self.fetch.on_device)

    def drain(self) -> float:
        """Return when live tensors may change; how many seconds that took."""
        if self._drained:
            return 0.0
        started = time.perf_counter()
        self.make_room()
        for piece in reversed(self._pieces):
            if self._stopped or not piece.spill(self._spill):
                break
        self.fetch.hold_back()
        with self._changed:
            while self._live and not self._stopped:
                self._changed.wait()
            self._torn = self._changed_since()
            self._drained = True  # not while `check` looks: it would take the step that follows for somebody else's
        return time.perf_counter() - started

    def stop(self) -> None:
        """The writer is done, or gave up: nothing more is taken."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for piece in self._pieces:
            piece.close()
        self._pieces.clear()

    def check(self) -> None:
        """Called by the writer after the last byte: was what it took of one moment?

        Raises:
            SaveFailed: A tensor was changed while its bytes were taken, by something that we could not hold back.
        """
        with self._changed:
            torn = self._torn if self._drained else self._changed_since()
        if torn is not None:
            raise SaveFailed(
                f"{torn} was changed while it was being saved, and not by an optimizer's step; nothing was replaced.",
                hint="Save when the step is complete (averages updated, weights clipped), or with blocking=True.",
            )

    def _changed_since(self) -> str | None:
        return next((name for name, tensor, version in self._versions if _version(tensor) != version), None)

    def taken(self) -> None:
        """One more piece needs its live tensor no longer."""
        with self._changed:
            self._live -= 1
            if not self._live:
                self.free_at = time.perf_counter()
                self._changed.notify_all()


class _Piece:
    """Bytes that are taken together: one chunk of a tensor, or rows of one that have to be put in order first."""

    __slots__ = ("_bytes", "_left", "_live", "_lock", "_ready", "_staging", "_start", "_tensor", "nbytes")

    def __init__(self, staging: Staging, tensor: torch.Tensor, start: int, nbytes: int, live: bool) -> None:
        self.nbytes = nbytes
        self._staging = staging
        self._tensor: torch.Tensor | None = tensor
        self._start = start
        self._bytes: memoryview | None = None
        self._ready: torch.cuda.Event | None = None  # tells when a device has copied them
        self._left = nbytes
        self._live = live
        self._lock = threading.Lock()

    def read(self, start: int, out: memoryview) -> None:
        with self._lock:
            if self._bytes is None:
                self._bytes, own = self._fetch()
                if own:
                    self._leave()
            self._await()
            copy(out, self._bytes[start : start + len(out)])
            self._left -= len(out)
            if not self._left:
                self._bytes = None
                self._leave()

    def spill(self, room: Spill) -> bool:
        """Copy what is still to be taken out of live memory; False when there is no room."""
        with self._lock:
            if not self._live or self._tensor is None:
                return True
            target = room.take(self.nbytes)
            if target is None:
                return False
            if self._bytes is None and self._tensor.device.type == "cuda":
                self._ready = self._staging.fetch.queue(self._source(self._tensor), target)
            else:
                copy(target, self._bytes or self._fetch()[0])
            self._bytes = target
            self._leave()
        return True

    def close(self) -> None:
        with self._lock:
            self._await()
            self._tensor = self._bytes = None

    def _fetch(self) -> tuple[memoryview, bool]:
        """The bytes in host memory, and whether that is a copy of our own."""
        tensor = self._tensor
        assert tensor is not None, "asked for a byte twice"
        source = self._source(tensor)
        if not _in_order(tensor) or tensor.device.type != "cpu":
            return self._staging.fetch(source), True
        return source.numpy().data, False

    def _source(self, tensor: torch.Tensor) -> torch.Tensor:
        """The piece of the tensor, as bytes; whole rows of it where they have to be put in order first."""
        if not _in_order(tensor):
            row = _row_bytes(tensor)
            return tensor[self._start // row : (self._start + self.nbytes) // row]
        return tensor.reshape(-1).view(torch.uint8)[self._start : self._start + self.nbytes]

    def _await(self) -> None:
        if self._ready is not None:
            self._ready.synchronize()
            self._ready = None

    def _leave(self) -> None:
        self._tensor = None
        if self._live:
            self._live = False
            self._staging.taken()


def _rounded(nbytes: int) -> int:
    return nbytes + -nbytes % _ROUND


def _in_order(tensor: torch.Tensor) -> bool:
    """Whether a tensor's memory is what a file holds, byte for byte."""
    return tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()


def _row_bytes(tensor: torch.Tensor) -> int:
    return max(1, tensor[:1].numel() * tensor.element_size())


def _version(tensor: torch.Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version
