"""The one way in which every request is admitted, read and answered.

A handler is an ordinary function from `Call` to `Response`. It runs in a worker thread, after the caller was
admitted and the body received within its bounds, so it may block, and holds no event loop up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from perdure.hub import limits
from perdure.hub.blobs import CHUNK
from perdure.hub.core import Access, Call
from perdure.hub.git_process import Commands
from perdure.hub.http import ApiError, repo_not_found, too_large
from perdure.hub.turns import Turns

T = TypeVar("T")

Handler = Callable[[Call], Response]
Endpoint = Callable[[Request], Awaitable[Response]]

_served: WeakKeyDictionary[Endpoint, tuple[Handler, Access]] = WeakKeyDictionary()


def served(endpoint: Endpoint) -> tuple[Handler, Access]:
    """The handler behind an endpoint made here, and what it asks of its callers."""
    return _served[endpoint]


def route(
    method: str,
    path: str,
    handler: Handler,
    access: Access,
    *,
    limit: int = limits.JSON_BODY,
    before: Callable[[Call], None] | None = None,
    turns: Turns | None = None,
) -> Route:
    """The route of a handler that wants the body in memory, at most `limit` bytes.

    `before` runs once the caller is admitted and ahead of the body, for what only the handler can check. The handler
    waits for its turn among all; with `turns` for one of those, which it has until its answer has gone out, and its git
    commands end with the client.
    """

    async def serve(request: Request) -> Response:
        call = await _admitted(request, access, before)
        parts = [chunk async for chunk in _body(request, limit)]
        call.body = b"".join(parts)
        return await _answered(request, call, _unless_deleted(handler), turns)

    return _route(method, path, serve, handler, access)


def upload_route(
    method: str,
    path: str,
    handler: Handler,
    access: Access,
    *,
    limit: int,
    digest: bool = False,
    before: Callable[[Call], None] | None = None,
    turns: Turns | None = None,
) -> Route:
    """The route of a handler that wants the body in a staged file, digested on the way if it says so.

    It waits for its turn as in `route`.
    """

    async def serve(request: Request) -> Response:
        call = await _admitted(request, access, before)
        with await run(lambda: call.hub.staging.new(digest=digest)) as staged:
            buffer = bytearray()
            async for chunk in _body(request, limit if call.most is None else call.most):
                buffer += chunk
                if len(buffer) >= CHUNK:
                    await run(staged.write, buffer)
                    buffer = bytearray()
            await run(staged.write, buffer)
            call.upload = staged
            return await _answered(request, call, _unless_deleted(handler), turns)

    return _route(method, path, serve, handler, access)


def _route(method: str, path: str, serve: Endpoint, handler: Handler, access: Access) -> Route:
    _served[serve] = handler, access
    return Route(path, serve, methods=[method])


def _unless_deleted(handler: Handler) -> Handler:
    """The same handler, whose failure may be that its repository was deleted meanwhile: then that is what it tells."""

    def handle(call: Call) -> Response:
        try:
            return handler(call)
        except ApiError:
            raise
        except Exception as error:
            if call.admitted is None or call.hub.db.repo_by_id(call.admitted.id) is not None:
                raise
            raise repo_not_found(anonymous=call.caller is None) from error

    return handle


async def _answered(request: Request, call: Call, handler: Handler, turns: Turns | None) -> Response:
    async with AsyncExitStack() as held:
        everyones: Turns = request.app.state.turns
        await held.enter_async_context((turns or everyones).take(call.who))
        if await request.is_disconnected():
            raise ApiError(408, "The client has gone; nothing was done.")
        if turns is None:
            return await run(handler, call)
        async with ending_with_client(request.receive, call.commands):
            answer = await run(handler, call)
        return _Held(answer, held.pop_all())


class _Held(Response):
    """An answer that has its turn until it has gone out."""

    def __init__(self, answer: Response, held: AsyncExitStack) -> None:
        super().__init__()
        self._answer = answer
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await self._answer(scope, receive, send)


@asynccontextmanager
async def ending_with_client(receive: Receive, commands: Commands) -> AsyncIterator[None]:
    """Kill git commands when the client goes while the block runs, when it runs for too long, or when it raises."""

    async def watch() -> None:
        with anyio.move_on_after(limits.GIT_SECONDS):
            while (await receive())["type"] != "http.disconnect":
                pass
        commands.kill()

    watching = asyncio.create_task(watch())
    try:
        yield
    except BaseException:
        commands.kill()
        raise
    finally:
        watching.cancel()


async def run(function: Callable[..., T], *args: object) -> T:
    """Call a blocking function in a worker thread."""
    return await anyio.to_thread.run_sync(function, *args)


async def _admitted(request: Request, access: Access, before: Callable[[Call], None] | None) -> Call:
    call = Call(request.app.state.hub, request)

    def admit() -> None:
        call.admit(access)
        if before is not None:
            before(call)

    await run(admit)
    return call


async def _body(request: Request, limit: int) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large("The request body", limit)
    received, begun = 0, anyio.current_time()
    stream = request.stream()
    try:
        while True:
            ahead = begun + received / limits.BODY_RATE - anyio.current_time()
            with anyio.fail_after(limits.BODY_SILENCE_SECONDS + min(0, ahead)):
                chunk = await anext(stream, None)
            if chunk is None:
                return
            received += len(chunk)
            if received > limit:
                raise too_large("The request body", limit)
            yield chunk
    except (TimeoutError, ClientDisconnect) as error:
        raise ApiError(408, "The request body did not arrive whole; nothing was kept of it.") from error
