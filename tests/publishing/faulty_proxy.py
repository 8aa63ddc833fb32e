"""A proxy in front of a hub that does to requests what networks and overloaded servers do to them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

_BLOCK = 2**16
_HEAD = 2**16
# fault → what the client is answered where the hub is never asked
_ANSWERS = {
    "429": "429 Too Many Requests\r\nRetry-After: 0",
    "429 for 2 s": "429 Too Many Requests\r\nRetry-After: 2",
    "503 for 2 s": "503 Service Unavailable\r\nRetry-After: 2",
    "500": "500 Internal Server Error",
    "503": "503 Service Unavailable",
}


@dataclass(frozen=True)
class Request:
    """A request's first line."""

    method: str
    path: str


Choose = Callable[[Request], str | None]


class FaultyProxy:
    """Listens on a port of this machine; each connection carries one request.

    Faults: `refused` (closed before the request is read), `cut` (closed in the middle of the request), `lost` (the hub
    has done it, and the answer is thrown away), `torn` (half of the answer comes), `gateway` (the hub has done it, and
    the answer is 502), `429`, `500`, `503` (the hub is not asked), `slow`. Of
    those that are never met at random, `429 for 2 s` and `503 for 2 s` ask to be left alone for that long.

    Args:
        hub: The hub's address.
        choose: Says of each request which fault it meets, if any.
    """

    KINDS = ("refused", "cut", "lost", "torn", "gateway", "429", "500", "503", "slow")

    def __init__(self, hub: str, choose: Choose) -> None:
        address = urlsplit(hub)
        self._hub = (address.hostname or "127.0.0.1", address.port or 80)
        self._choose = choose
        self.met: Counter[str] = Counter()
        self.carried = 0  # bytes, both ways, but for the heads of requests
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = started.result(timeout=10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            await asyncio.sleep(0.05)  # for what was accepted just now to begin
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.05)  # for connections to close

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
                await self._one(reader, writer)
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, fields = head.partition(b"\r\n")
        method, path, _ = first.decode("latin-1").split(" ", 2)
        fault = self._choose(Request(method, path))
        if fault is not None:
            self.met[fault] += 1
        if fault == "refused":
            return
        if fault in _ANSWERS:
            writer.write(f"HTTP/1.1 {_ANSWERS[fault]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            await _swallow(reader)
            return
        kept = [line for line in fields.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
        hub_reader, hub_writer = await asyncio.open_connection(*self._hub)
        try:
            hub_writer.write(b"\r\n".join([first, *kept, b"Connection: close", b"", b""]))
            if fault == "cut":
                if method not in ("GET", "HEAD"):
                    hub_writer.write((await reader.read(_BLOCK))[:16])
                await hub_writer.drain()
                return
            if fault == "slow":
                await asyncio.sleep(0.3)
            sending = asyncio.ensure_future(self._pump(reader, hub_writer))
            try:
                answer = await hub_reader.read() if fault in ("lost", "torn", "gateway") else None
                if answer is None:
                    await self._pump(hub_reader, writer)
                elif fault == "torn":
                    writer.write(answer[: len(answer) // 2])
                elif fault == "gateway":
                    writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
            finally:
                sending.cancel()
        finally:
            hub_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(_BLOCK):
            self.carried += len(block)
            writer.write(block)
            await writer.drain()


async def _swallow(reader: asyncio.StreamReader) -> None:
    """Read what the client still sends: closed with bytes unread, its answer would be lost in a reset."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_discard(reader), timeout=0.2)


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(_BLOCK):
        pass


class Random:
    """Faults at random, a certain number of them; the same ones for the same seed and order of requests."""

    def __init__(self, seed: int, *, rate: float, most: int) -> None:
        self._random = random.Random(seed)
        self._rate = rate
        self._left = most
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether all of them were met."""
        return self._left == 0

    def __call__(self, request: Request) -> str | None:
        with self._lock:
            if self._left == 0 or self._random.random() >= self._rate:
                return None
            self._left -= 1
            return self._random.choice(FaultyProxy.KINDS)
