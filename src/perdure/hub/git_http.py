"""Git's smart HTTP: clone and fetch by `git upload-pack` itself, push by our own hand.

A push goes the way of every other commit: objects are durable before a ref moves, refs move under the repository's
lock and only from where the pusher saw them, and what the API refuses is refused here.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from io import BufferedReader
from subprocess import Popen
from typing import IO, Any, Final, cast

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from perdure.hub import auth, limits
from perdure.hub.blobs import CHUNK
from perdure.hub.core import Access, Call, forbidden
from perdure.hub.endpoints import ending_with_client, run
from perdure.hub.git_process import Commands
from perdure.hub.git_push import CAPABILITIES, receive
from perdure.hub.git_wire import FLUSH, advertise, packet
from perdure.hub.http import ApiError, bad_request, too_large

log = logging.getLogger("perdure.hub")

_UPLOAD, _RECEIVE = "git-upload-pack", "git-receive-pack"
_PROTOCOL: Final = re.compile(r"version=[012]")
_NO_CACHE: Final = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}


def refusal(path: str, error: ApiError) -> Response | None:
    """An error as git or git-lfs tells it to people; None at other addresses.

    Git shows plain text, git-lfs a `message`, and both ask for a user and a password where a 401 says so; the
    password is a token.
    """
    smart, lfs = path.endswith(("/info/refs", f"/{_UPLOAD}", f"/{_RECEIVE}")), "/info/lfs/" in path
    if not (smart or lfs):
        return None
    if error.status == 401:
        error.headers["WWW-Authenticate"] = error.headers["LFS-Authenticate"] = 'Basic realm="perdure hub"'
    error.body["message"] = error.message
    return error.response(plain=smart)


def check_push(call: Call) -> None:
    """Refuse who neither may write nor has a pull request here; which refs they may move is for `receive` to say."""
    if not (auth.may_write(call.caller, call.repo) or call.hub.discussions.has_pull(call.repo, call.user.name)):
        raise forbidden(call.user, call.repo.full_name)


def info_refs(call: Call) -> Response:
    """All refs, for the command that `service` names."""
    service = call.query("service")
    if service == _RECEIVE:
        call.require(Access.PROPOSE)
        check_push(call)
        with call.git() as git:
            body = advertise(git.all_refs(), CAPABILITIES)
    elif service == _UPLOAD:
        with call.git() as git:
            command = ["upload-pack", "--stateless-rpc", "--advertise-refs", "--strict", "."]
            process = call.commands.start(command, git.folder, variables=_protocol(call))
            assert process.stdout is not None
            body = process.stdout.read()
            if call.commands.end(process) != [0]:
                raise ApiError(500, "The hub could not read this repository; `perdure hub fsck` says why.")
    else:
        raise ApiError(403, "Clone with a git that speaks the smart protocol (any since 2010).")
    if "version=2" not in _protocol(call).values() or service == _RECEIVE:
        body = packet(f"# service={service}\n".encode()) + FLUSH + body
    return Response(body, media_type=f"application/x-{service}-advertisement", headers=_NO_CACHE)


def _protocol(call: Call) -> dict[str, str]:
    wanted = call.request.headers.get("git-protocol", "")
    return {"GIT_PROTOCOL": wanted} if _PROTOCOL.fullmatch(wanted) else {}


def upload_pack(call: Call) -> Response:
    """A clone or fetch: what the client wants and has goes in, a pack comes out as it is made."""
    with _plain(call, limits.GIT_NEGOTIATION) as request, call.git() as git:
        command = ["upload-pack", "--stateless-rpc", "--strict", "."]
        process = call.commands.start(command, git.folder, stdin=request, variables=_protocol(call))
    return _Output(call.commands, process, media_type=f"application/x-{_UPLOAD}-result", headers=_NO_CACHE)


class _Output(StreamingResponse):
    """What a command writes, as it comes. The command ends with the answer, whichever way that ends."""

    def __init__(self, commands: Commands, process: Popen[bytes], **options: Any) -> None:
        super().__init__(self._read(process), **options)
        self._commands = commands
        self._process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with ending_with_client(receive, self._commands):
                await self.stream_response(send)
            (code,) = await run(self._commands.end, self._process)
            if code:
                log.warning("git upload-pack ended with %d", code)
        except ApiError as error:
            log.warning("git upload-pack was killed: %s", error.message)
        finally:
            self._commands.kill()

    @staticmethod
    async def _read(process: Popen[bytes]) -> AsyncIterator[bytes]:
        output = cast(BufferedReader, process.stdout)
        while data := await run(output.read1, CHUNK >> 4):
            yield data


def receive_pack(call: Call) -> Response:
    """A push: everything it brings is checked and durable before the first ref moves."""
    with _plain(call, limits.GIT_PACK) as request:
        answer = receive(call, request)
    return Response(answer, media_type=f"application/x-{_RECEIVE}-result", headers=_NO_CACHE)


@contextmanager
def _plain(call: Call, limit: int) -> Iterator[IO[bytes]]:
    """The request's body as an open file, unpacked where the client compressed it."""
    encoding = call.request.headers.get("content-encoding", "identity")
    with call.received.path.open("rb") as packed:
        if encoding == "identity":
            yield packed
            return
        if encoding not in {"gzip", "x-gzip"}:
            raise ApiError(415, "A request may be compressed by gzip only.")
        with call.hub.staging.new(digest=False) as staged:
            for data in _unzip(packed):
                staged.write(data)
                if staged.size > limit:
                    raise too_large("The request, unpacked,", limit)
            with staged.path.open("rb") as plain:
                yield plain


def _unzip(file: IO[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        while not unpacker.eof:
            data = unpacker.unconsumed_tail or file.read(CHUNK)
            if not data:
                raise bad_request("The compressed request is cut off.")
            yield unpacker.decompress(data, CHUNK)
    except zlib.error as error:
        raise bad_request("The request is not valid gzip.") from error
