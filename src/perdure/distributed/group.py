"""The processes that train together: a process group of torch.distributed, or a group of one.

All that passes between them is JSON and plain bytes; torch's own object collectives would unpickle what they receive.
Every method must be called by every process of the group, in the same order, from the thread that trains.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.errors import PerdureError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_log = logging.getLogger("perdure")
_LENGTH = struct.Struct("<Q")
_FRAME = 256  # bytes: what processes tell each other fits, as a rule, and then costs one collective


class Group:
    """A group of one, which agrees with itself at no cost.

    Attributes:
        rank: Which of them this process is.
        size: How many they are.
    """

    rank = 0
    size = 1

    def agree(self, work: Callable[[], T], *, error: type[PerdureError] = PerdureError) -> list[T]:
        """Do `work` on every rank; if it fails on one, it fails on all.

        Args:
            work: What it returns is known to JSON.
            error: What is raised where `work` failed with something that is not a PerdureError, or a process is gone.

        Returns:
            What `work` returned on each rank, in order.

        Raises:
            PerdureError: The error of the lowest rank on which `work` failed, of the same class, with the rank's name
                in front. A group of one raises whatever `work` raises.
        """
        return [work()]

    def collect(self, data: bytes, *, error: type[PerdureError] = PerdureError) -> list[bytes]:
        """Bytes of every rank, in order, on rank 0; nothing elsewhere."""
        return [data]

    def close(self) -> None:
        """Give up what the group took; nothing is said to the others."""


def current() -> Group:
    """The group that this process belongs to now.

    Each call makes a process group of its own, on gloo: what is told in it never comes between the collectives of
    training, and needs no GPU. It waits for others as long as the default process group does.
    """
    dist = sys.modules.get("torch.distributed")  # a program that uses it has imported it
    if dist is None or not dist.is_available() or not dist.is_initialized():
        _warn_of_strangers()
        return Group()
    return _Several() if dist.get_world_size() > 1 else Group()


def launched() -> int:
    """How many processes a launcher such as torchrun says that it started; 1 where none does."""
    try:
        return int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else 1
    except (KeyError, ValueError):
        return 1


def _warn_of_strangers() -> None:
    if (count := launched()) > 1:
        _log.warning(
            "This process was started as one of %d (WORLD_SIZE), but has no process group: each of them trains, and "
            "writes the same checkpoints, by itself. Call torch.distributed.init_process_group() first.",
            count,
        )


class _Several(Group):
    def __init__(self) -> None:
        import torch.distributed as dist

        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        with self._answering(PerdureError):
            self._group = dist.new_group(backend="gloo", timeout=_timeout())

    def agree(self, work: Callable[[], T], *, error: type[PerdureError] = PerdureError) -> list[T]:
        failure: Exception | None = None
        told: dict[str, Any]
        try:
            told = {"done": work()}
        except Exception as raised:  # the others must hear of it first
            failure, told = raised, _described(raised, error)
        said = [json.loads(text) for text in self._exchange(json.dumps(told).encode(), error)]
        for rank, one in enumerate(said):
            if "kind" in one:
                raise _rebuilt(rank, one) from failure
        return [one["done"] for one in said]

    def collect(self, data: bytes, *, error: type[PerdureError] = PerdureError) -> list[bytes]:
        import torch
        import torch.distributed as dist

        sizes = [_LENGTH.unpack(size)[0] for size in self._exchange(_LENGTH.pack(len(data)), error)]
        with self._answering(error):
            if self.rank:
                if data:
                    dist.send(_tensor(data), dst=0, group=self._group)
                return []
            received = [data]
            for rank, size in list(enumerate(sizes))[1:]:
                buffer = torch.empty(size, dtype=torch.uint8)
                if size:
                    dist.recv(buffer, src=rank, group=self._group)
                received.append(buffer.numpy().tobytes())
        return received

    def close(self) -> None:
        import torch.distributed as dist

        with suppress(ValueError, RuntimeError):  # the program may have ended all groups before us
            dist.destroy_process_group(self._group)

    def _exchange(self, data: bytes, error: type[PerdureError]) -> list[bytes]:
        """Bytes of every rank, on every rank."""
        with self._answering(error):
            first = self._gather(_LENGTH.pack(len(data)) + data[: _FRAME - _LENGTH.size], _FRAME)
            lengths = [_LENGTH.unpack(frame[: _LENGTH.size])[0] for frame in first]
            longest = max(lengths)
            if longest > _FRAME - _LENGTH.size:
                return [whole[:length] for whole, length in zip(self._gather(data, longest), lengths, strict=True)]
        return [frame[_LENGTH.size :][:length] for frame, length in zip(first, lengths, strict=True)]

    def _gather(self, data: bytes, width: int) -> list[bytes]:
        import torch
        import torch.distributed as dist

        frames = [torch.empty(width, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(frames, _tensor(data.ljust(width, b"\0")), group=self._group)
        return [frame.numpy().tobytes() for frame in frames]

    @contextmanager
    def _answering(self, error: type[PerdureError]) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as failure:  # ValueError: torch's, of a group that is no more
            raise error(
                f"Rank {self.rank} of {self.size} has no answer from the others: {failure}. Nothing was committed.",
                hint="Start all processes again; the run goes on from its newest whole checkpoint.",
            ) from failure


def _tensor(data: bytes) -> torch.Tensor:
    import torch

    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _timeout() -> timedelta | None:
    """The default group's; a new group would be given half an hour whatever the default one's is."""
    import torch.distributed as dist

    with suppress(AttributeError, RuntimeError, IndexError):  # torch has no public name for it
        world: Any = dist.group.WORLD
        return world._get_backend(world._device_types[0]).options._timeout  # type: ignore[no-any-return]
    return None


def _described(failure: Exception, otherwise: type[PerdureError]) -> dict[str, Any]:
    known = failure if isinstance(failure, PerdureError) else otherwise(f"{type(failure).__name__}: {failure}")
    return known.as_document()


def _rebuilt(rank: int, said: dict[str, Any]) -> PerdureError:
    named = {"rank": rank} if "rank" in said else {}
    return PerdureError.from_document({**said, "message": f"Rank {rank}: {said['message']}", **named})
