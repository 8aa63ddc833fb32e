"""Reads and writes that the kernel carries out while their thread goes on: native asynchronous I/O, `io_submit(2)`.

A thread that waits for each of them has to be woken after it, and on busy cores it wakes late, so that the disk
runs dry. One that only hands writes over keeps many in hand. It needs files opened around the page cache; with others
the kernel does the work within the call. (`io_uring` would do the same, but containers often forbid it.)
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache

# Numbers of io_setup, io_destroy, io_submit and io_getevents: asm/unistd_64.h, and asm-generic/unistd.h.
_CALLS = {"x86_64": (206, 207, 209, 208), "aarch64": (0, 1, 2, 4), "riscv64": (0, 1, 2, 4)}
_PREAD, _PWRITE = 0, 1  # IOCB_CMD_… in linux/aio_abi.h, where the two structures below are from
_DEPTH = 32  # the most that one queue has in hand
_REFUSALS = (errno.EAGAIN, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)


class _Request(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64), ("key", ctypes.c_uint32), ("flags_of_write", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16), ("priority", ctypes.c_int16), ("descriptor", ctypes.c_uint32),
        ("address", ctypes.c_uint64), ("nbytes", ctypes.c_uint64), ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("event", ctypes.c_uint32),
    )  # fmt: skip


class _Event(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64), ("request", ctypes.c_uint64), ("result", ctypes.c_int64), ("more", ctypes.c_int64),
    )  # fmt: skip


class Queue:
    """Up to `depth` reads or writes in the kernel's hands; for one thread.

    Raises:
        OSError: The system has none to give.
    """

    def __init__(self, depth: int) -> None:
        self._submit, self._getevents = _numbers()[2:]
        self._requests = [_Request() for _ in range(depth)]
        self._events = (_Event * depth)()
        self._context = _take(depth)

    def submit(self, slot: int, descriptor: int, data: memoryview, offset: int, *, reading: bool = False) -> bool:
        """Hand over the write, or the reading, of whole pages; False where the kernel does not take it.

        Args:
            slot: Which of the `depth` requests to use; it is in use until `wait` returns it.
            data: Must be left alone until then.
        """
        request = self._requests[slot]
        request.data, request.opcode, request.descriptor = slot, _PREAD if reading else _PWRITE, descriptor
        request.address = ctypes.addressof(ctypes.c_char.from_buffer(data))
        request.nbytes, request.offset = len(data), offset
        pointer = ctypes.c_void_p(ctypes.addressof(request))
        try:
            return _call(self._submit, self._context, ctypes.c_long(1), ctypes.byref(pointer)) == 1
        except OSError as error:
            if error.errno in _REFUSALS:
                return False
            raise

    def wait(self) -> list[tuple[int, int]]:
        """Wait for one at least: the slot of each that is done, and how many bytes it moved, or minus an errno."""
        most = ctypes.c_long(len(self._requests))
        count = _call(self._getevents, self._context, ctypes.c_long(1), most, self._events, None)
        return [(event.data, event.result) for event in self._events[:count]]

    def close(self, *, idle: bool) -> None:
        """Give it back: for the next file if it is `idle`, and else when the kernel is done with what it has in hand.

        Args:
            idle: Whether every request was waited for. After an interruption that is unknown, whatever was counted.
        """
        if idle:
            _idle.append(self._context)
        else:
            _call(_numbers()[1], self._context)


def is_available() -> bool:
    """Whether this system lets us have a `Queue`."""
    try:
        Queue(1).close(idle=True)
    except OSError:
        return False
    return True


# Contexts are kept for the next file: io_destroy(2) takes 30 ms, until no processor can be looking at one any more.
_idle: list[ctypes.c_ulong] = []
os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's memory's


def _take(depth: int) -> ctypes.c_ulong:
    if depth > _DEPTH:
        raise ValueError(f"a queue has at most {_DEPTH} requests in hand, not {depth}")
    with suppress(IndexError):
        return _idle.pop()
    context = ctypes.c_ulong(0)
    _call(_numbers()[0], ctypes.c_ulong(_DEPTH), ctypes.byref(context))
    return context


def _numbers() -> tuple[int, int, int, int]:
    if sys.platform != "linux" or platform.machine() not in _CALLS or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return _CALLS[platform.machine()]


def _call(number: int, *arguments: object) -> int:
    while True:
        result = _syscall()(ctypes.c_long(number), *arguments)
        if result >= 0:
            return result
        if (code := ctypes.get_errno()) != errno.EINTR:
            raise OSError(code, os.strerror(code))


@cache
def _syscall() -> Callable[..., int]:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return call
