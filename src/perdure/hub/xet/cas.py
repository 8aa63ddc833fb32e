"""The content-addressed store that Xet clients upload to."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import IO, Final

from starlette.responses import JSONResponse, Response

from perdure.hub import limits
from perdure.hub.core import Access, Call, Hub
from perdure.hub.http import ApiError, bad_request
from perdure.hub.xet.dedup import Made
from perdure.hub.xet.hashing import chunk_hash, hash_text
from perdure.hub.xet.shard import File, describe_xorbs, read_files, read_xorbs
from perdure.hub.xet.xorb import XetError, Xorb, check_xorb

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_PURPOSE: Final = "xet-write"


def write_token(call: Call) -> Response:
    """A short-lived token for uploads to this repository, and the address to upload to."""
    expires = int(time.time()) + limits.XET_TOKEN_SECONDS
    token = call.signed(_PURPOSE, limits.XET_TOKEN_SECONDS)
    url = f"{call.base}/cas-{call.hub.db.epoch(call.user.user.id)}"
    return JSONResponse(
        {"casUrl": url, "exp": expires, "accessToken": token},
        headers={
            "X-Xet-Cas-Url": url,
            "X-Xet-Access-Token": token,
            "X-Xet-Token-Expiration": str(expires),
            "Cache-Control": "no-store",
        },
    )


def check_access(call: Call) -> None:
    """Refuse what has no write token of ours, before any of the body is read.

    The epoch in the address is for clients alone: uploads under way while it is renewed go on as they were.
    """
    scheme, _, token = call.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise ApiError(401, "This needs the token that xet-write-token gives.")
    call.admit_signed(token, _PURPOSE, Access.PROPOSE)


def find_chunk(call: Call) -> Response:
    """Where a chunk is stored, and what is stored with it; 404 makes clients send it."""
    found = call.hub.dedup.find(call.param("hash"), call.user)
    stored = [(name, chunks) for name, chunks in found if call.hub.xorbs.keep(name)]
    if not stored:
        raise ApiError(404, "Not found")
    shard = describe_xorbs(stored, int(time.time()) + limits.XET_SHARD_SECONDS)
    return Response(shard, media_type="application/octet-stream")


def put_xorb(call: Call) -> Response:
    """Take in a xorb: stored only when its chunks have the hash it is named by."""
    name = call.param("hash")
    if not _HASH.fullmatch(name):
        raise bad_request("Not a xorb hash.")
    inserted = not _is_sound(call.hub, name)
    # its name is not enough: who has not the bytes may not build on them
    if inserted or not call.hub.dedup.knows(name) or not call.hub.dedup.was_sent(name, call.user):
        try:
            chunks = check_xorb(call.received.path, name)
        except XetError as error:
            raise bad_request(f"This xorb cannot be stored: {error}.") from error
        if inserted:
            call.hub.xorbs.put(name, call.received)
        call.hub.dedup.add(name, chunks)
        call.hub.dedup.sent(name, call.user)
    return JSONResponse({"was_inserted": inserted})


def _is_sound(hub: Hub, name: str) -> bool:
    """Whether a xorb is stored undamaged; bytes that arrive for a damaged one take its place."""
    try:
        return hub.xorbs.keep(name) and bool(check_xorb(hub.xorbs.path(name), name))
    except (XetError, OSError):
        return False


def put_shard(call: Call) -> Response:
    """Put together and store every file a shard describes.

    All xorbs are looked for before the first byte is written: a client that believes it sent one to a store
    that no longer has it must hear so now, not when somebody downloads. It would believe so for ever, so the next
    write token names another address, to which it has sent nothing yet.
    """
    try:
        with call.received.path.open("rb") as file:
            _check_files(call, file)
            _require_xorbs(call, ((name, 0) for name in read_xorbs(file)))
            file.seek(0)
            files = _distinct(read_files(file))
            while made := [_take(call, described) for described in islice(files, limits.SHARD_BATCH)]:
                call.hub.db.hold(call.repo, *(taken.oid for taken in made))
                call.hub.dedup.use(made)
    except _Absent as error:
        call.hub.db.renew_epoch_of(call.user.user.id, call.param("epoch"))
        raise bad_request(f"This shard cannot be taken: {error}. Upload again, and every xorb is sent.") from error
    except XetError as error:
        raise bad_request(f"This shard cannot be taken: {error}.") from error
    return JSONResponse({"result": 1})


def _check_files(call: Call, shard: IO[bytes]) -> None:
    """Refuse what would be work without end: a small shard can name the same few chunks a million times."""
    total, xorbs = 0, set[str]()
    for described in read_files(shard):
        if described.size > limits.BLOB:
            raise XetError(f"a file in it has more than {limits.BLOB} bytes")
        uses = described.uses()
        _require_xorbs(call, uses.items())
        total += described.size
        xorbs |= uses.keys()
    if total > limits.SHARD_UNPACKED and total > limits.SHARD_REPEATS * call.hub.dedup.unpacked(xorbs):
        raise XetError("its files repeat the same chunks too often; send such a file with HF_HUB_DISABLE_XET=1")


class _Absent(XetError):
    """A shard builds on a xorb that is not stored, as far as its sender may know."""


def _require_xorbs(call: Call, uses: Iterable[tuple[str, int]]) -> None:
    for name, chunks in uses:
        if not call.hub.xorbs.keep(name) or not call.hub.dedup.may_use(name, chunks, call.user):
            raise _Absent(f"the xorb {name} is not stored here")


def _distinct(files: Iterable[File]) -> Iterator[File]:
    seen: set[str] = set()
    for file in files:
        if file.sha256 not in seen:
            seen.add(file.sha256)
            yield file


def _take(call: Call, file: File) -> Made:
    """Store a file, once its terms proved to be that file; the repository may hold it then.

    That its bytes are stored is no proof: whoever knows a sha256 could then open other people's files. Of a file that
    the repository holds none is asked, so that a client that gave up waiting for a large shard finds it done when it
    asks again. Wrong terms do no harm: downloads are of stored files alone, and their sender may use all they name.
    """
    hub = call.hub
    with _assembling(file.sha256):
        stored = hub.blobs.keep(file.sha256) and hub.blobs.size(file.sha256) == file.size
        if not stored or not (hub.holds(call.repo, file.sha256) or _is_as_stored(hub, file)):
            _store(hub, file)
    return Made(file.sha256, file.uses(), _first_chunk(hub, file))


def _first_chunk(hub: Hub, file: File) -> tuple[str, str] | None:
    """The hash of a file's first chunk, which every client asks for, and the xorb that has it."""
    for term in file.terms[:1]:
        for chunk in Xorb(hub.xorbs.path(term.xorb)).read(term.start, term.start + 1):
            return hash_text(chunk_hash(chunk)), term.xorb
    return None


def _is_as_stored(hub: Hub, file: File) -> bool:
    """Whether what is stored under a file's digest is, byte for byte, the file that its terms prove to be."""
    digest, same = hashlib.sha256(), True
    with hub.blobs.path(file.sha256).open("rb") as stored:
        for chunk in _join(hub, file):
            digest.update(chunk)
            same = same and stored.read(len(chunk)) == chunk
    _require_digest(file, digest.hexdigest())
    return same


def _store(hub: Hub, file: File) -> None:
    if file.size > shutil.disk_usage(hub.staging.folder).free:
        raise ApiError(507, "The hub's disk has no room for this file; nothing was stored.")
    with hub.staging.new() as staged:
        for chunk in _join(hub, file):
            staged.write(chunk)
        _require_digest(file, staged.sha256())
        hub.blobs.put(file.sha256, staged)


def _join(hub: Hub, file: File) -> Iterator[bytes]:
    # a file of many small terms comes back to the same xorbs again and again
    opened = lru_cache(maxsize=16)(lambda name: Xorb(hub.xorbs.path(name)))
    for term in file.terms:
        xorb = opened(term.xorb)
        if xorb.size(term.start, term.stop) != term.size:
            raise XetError("a term does not have the size it says")
        yield from xorb.read(term.start, term.stop)


def _require_digest(file: File, sha256: str) -> None:
    if sha256 != file.sha256:
        raise XetError(f"a file put together from it does not have the sha256 {file.sha256}")


_running: dict[str, tuple[threading.Lock, int]] = {}
_guard = threading.Lock()


@contextmanager
def _assembling(sha256: str) -> Iterator[None]:
    """One at a time for one file: a client that gave up waiting and asks again waits for the work under way."""
    with _guard:
        lock, users = _running.get(sha256, (threading.Lock(), 0))
        _running[sha256] = (lock, users + 1)
    try:
        with lock:
            yield
    finally:
        with _guard:
            lock, users = _running[sha256]
            if users == 1:
                del _running[sha256]
            else:
                _running[sha256] = (lock, users - 1)
