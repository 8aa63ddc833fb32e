"""What every request and every answer of the hub has in common, around the application that serves it."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import anyio
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure.hub import limits
from perdure.hub.connections import REFUSED
from perdure.hub.core import ANSWER_HEADERS
from perdure.hub.http import ApiError, busy

log = logging.getLogger("perdure.hub")

_DRAIN_SECONDS: Final = 5.0
_HOST: Final = re.compile(r"[A-Za-z0-9.\-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


class Envelope:
    """Around the application: raw paths in, a request id out, one line of log for each request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers = dict(scope["headers"])
        request_id = _request_id(headers)
        scope["path"] = scope["raw_path"].decode("ascii", "replace")
        scope[ANSWER_HEADERS] = {}
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                always = {"x-request-id": request_id, **scope[ANSWER_HEADERS]}
                added = [(name.lower().encode(), value.encode()) for name, value in always.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            app = _refusal(scope, headers) or self._app
            await _Draining(app)(scope, receive, answer)
        except asyncio.CancelledError:  # the server is stopping, and this took longer than it waits
            if status == 0:
                stopping = ApiError(
                    503, "The hub is stopping; ask again once it is back.", headers={"Retry-After": "5"}
                )
                with anyio.CancelScope(shield=True):
                    await stopping.response()(scope, receive, answer)
        finally:
            elapsed = (time.monotonic() - started) * 1000
            # the path without its query: that is where signatures travel
            log.info("%s %s %s %d %.0fms", request_id, scope["method"], scope["path"], status, elapsed)


def _refusal(scope: Scope, headers: Mapping[bytes, bytes]) -> Response | None:
    """The answer to what no handler should have to think about."""
    if REFUSED in scope.get("state", ()):
        response = busy().response()
        response.headers["connection"] = "close"  # there may be room on another
        return response
    if not _HOST.fullmatch(headers.get(b"host", b"").decode("latin-1")):
        return ApiError(400, "The Host header is missing or malformed.").response()
    try:
        unquote(scope["path"], errors="strict")
    except UnicodeDecodeError:
        return ApiError(400, "The address is not valid UTF-8.").response()
    return None


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """The client's own id, where it sent a plausible one: then its log and ours speak of the same thing."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if re.fullmatch(r"[A-Za-z0-9._-]{1,128}", given) else secrets.token_hex(12)


def _is_small(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    # a client that waits for "100 Continue" has sent nothing yet, and reading would invite it to
    return b"expect" not in headers and length.isdigit() and int(length) <= limits.JSON_BODY


class _Draining:
    """Read what is left of a small body before the answer goes out.

    A server that answers and closes while the client still sends resets the connection, and many clients then
    report a broken pipe instead of reading the answer, which said what was wrong.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        finished = False

        async def take() -> Message:
            nonlocal finished
            message = await receive()
            finished = message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400 and _is_small(scope):
                with anyio.move_on_after(_DRAIN_SECONDS):
                    while not finished:
                        await take()
            await send(message)

        await self._app(scope, take, answer)
