"""Threads that share out tasks, and slabs of memory to move bytes through, aligned to pages."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

PAGE = 4096  # what direct I/O asks of offsets, lengths and memory: a multiple of any disk's block in use
SLAB = 2 * 2**20  # one huge page; larger ones fall out of the cache before the disk has fetched them
_HUGE = 2 * 2**20

T = TypeVar("T")


def make_slab(nbytes: int) -> memoryview:
    """Memory that begins on a page; the system provides it when it is first touched.

    It is made of huge pages where there are some: a disk is handed few long runs of memory, not many short ones, and
    that alone can double what it takes in a second.
    """
    memory = mmap.mmap(-1, nbytes + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A process forked meanwhile (a data loader's worker) must not share the slab: of a page that is shared so while
    # the disk moves it, one of the two sees a stale copy.
    for advice in ("MADV_HUGEPAGE", "MADV_DONTFORK"):
        if hasattr(mmap, advice):
            with suppress(OSError):  # the kernel was built without
                memory.madvise(getattr(mmap, advice))
    begin = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % _HUGE
    return memoryview(memory)[begin : begin + nbytes]


class Done:
    """Tells one thread that another has finished. The wait may be interrupted, and taken up again, any number of times.

    `Thread.join` does not allow it (up to Python 3.12 a thread whose `join` was interrupted passes for finished while
    it works on), and `threading.Event` not at every instant.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._latch = threading.Lock()
        self._latch.acquire()

    def set(self) -> None:
        """It has finished; to be said once."""
        self._is_set = True
        self._latch.release()

    def wait(self, seconds: float = -1) -> bool:
        """Return when it has finished, or after so many seconds; whether it has."""
        if not self._is_set and self._latch.acquire(timeout=seconds):
            self._latch.release()
        return self._is_set


def share_out(tasks: Iterable[T], work: Callable[[Iterator[T]], None], count: int) -> None:
    """Call `work` on up to `count` threads, each with an iterator that brings it tasks, in order, until none is left.

    The calling thread works too, so that where the system refuses more threads the work is done nevertheless.

    Raises:
        BaseException: The first that `work` raised on any thread, or that interrupted the calling one; no task is
            handed out after it, and none is worked on when it is raised.
    """
    waiting = list(tasks)
    waiting.reverse()
    errors: list[BaseException] = []
    at_work: list[Done] = []

    def hand_out() -> Iterator[T]:
        while not errors:
            try:
                yield waiting.pop()
            except IndexError:
                return

    def help_out() -> None:
        at_work.append(done := Done())  # and only then look for work: who comes after the end finds none
        try:
            if waiting and not errors:
                work(hand_out())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    try:
        with suppress(RuntimeError):  # no more threads: a limit, or the interpreter is on its way out
            for _ in range(min(count, len(waiting)) - 1):
                threading.Thread(target=help_out, name="perdure-io", daemon=True).start()
        work(hand_out())
    except BaseException as error:
        errors.append(error)
    while True:
        try:
            for done in at_work:
                done.wait()
            break
        except BaseException as error:  # an interruption must not leave them at work on a file that is closed
            errors.append(error)
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # or the error would hold its own traceback, and that the slabs
