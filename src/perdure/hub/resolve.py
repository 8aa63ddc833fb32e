"""Downloads: one file of one revision, whole or a range of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from perdure.hub import tree
from perdure.hub.blobs import CHUNK
from perdure.hub.core import Call
from perdure.hub.http import ApiError
from perdure.hub.paths import check_path
from perdure.hub.tree import Entry

_PICTURES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "svg": "image/svg+xml",
}
_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def resolve(call: Call) -> Response:
    """A file of a revision: whole or in part, or 304 when the client's copy is the same."""
    return _answer(call, raw=False)


def raw(call: Call) -> Response:
    """As `resolve`, of what git has: of a large file, that is its pointer."""
    return _answer(call, raw=True)


def _answer(call: Call, *, raw: bool) -> Response:
    path = check_path(call.param("path"))
    with call.git() as git:
        commit = git.resolve(call.param("revision"))
        entry = tree.find(git, commit, path)
        if entry is None or entry.folder:
            raise tree.entry_not_found(path, commit)
        if raw and entry.lfs:
            entry = replace(entry, lfs=None, size=entry.lfs.pointer_size)
        content = None if entry.lfs else git.blob(entry.oid)
    media = media_type(path) or ("application/octet-stream" if entry.lfs else "text/plain; charset=utf-8")
    # an SVG is a picture inside a page, but alone it is a page, which can hold scripts: then it is only saved
    disposition = "attachment" if media == _PICTURES["svg"] else "inline"
    headers = {
        "ETag": f'"{entry.etag}"',
        "X-Repo-Commit": commit.id.decode(),
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(path.rpartition('/')[2])}",
        # what people upload is shown as text or a picture, or downloaded, never run as a page of this hub
        "Content-Type": media,
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, no-cache" if call.repo.private else "no-cache",
    }
    if _etag_listed(call.request.headers.get("if-none-match", ""), entry.etag):
        return Response(status_code=304, headers=headers)
    if content is None:
        return send_file(call, _stored(call, entry), entry.size, headers)
    status, start, stop = _span(call, entry.size, headers)
    if call.request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return Response(content[start:stop], status_code=status, headers=headers)


def media_type(path: str) -> str | None:
    """The media type of a picture, by its name; None for everything else.

    >>> media_type("plots/loss.PNG"), media_type("page.html")
    ('image/png', None)
    """
    return _PICTURES.get(path.rpartition(".")[2].lower()) if "." in path else None


def send_file(call: Call, path: Path, size: int, headers: dict[str, str]) -> Response:
    """A file of `size` bytes, or the range of it that the request asks for, as it is read."""
    status, start, stop = _span(call, size, headers)
    if call.request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_read(path, start, stop), status_code=status, headers=headers)


def _span(call: Call, size: int, headers: dict[str, str]) -> tuple[int, int, int]:
    """The status, start and end of what to send; says so in `headers`."""
    status, (start, stop) = 200, (0, size)
    condition = call.request.headers.get("if-range")
    if condition is None or condition == headers["ETag"]:
        wanted = parse_range(call.request.headers.get("range", ""), size)
        if wanted is not None:
            status, (start, stop) = 206, wanted
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    return status, start, stop


def _stored(call: Call, entry: Entry) -> Path:
    assert entry.lfs is not None
    path = call.hub.blobs.path(entry.lfs.oid)
    if call.hub.blobs.size(entry.lfs.oid) != entry.lfs.size:
        raise ApiError(410, f"The bytes of {entry.path!r} (sha256 {entry.lfs.oid}) are missing from the hub's store.")
    return path


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The half-open range of bytes a Range header asks for; None to send the whole file.

    Several ranges at once may be answered with the whole file (RFC 9110, 14.2), and are.

    Raises:
        ApiError: 416, when the file ends before the range starts.

    >>> parse_range("bytes=5-", 10), parse_range("bytes=-3", 10), parse_range("bytes=0-99", 10)
    ((5, 10), (7, 10), (0, 10))
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None  # not a range at all: ignored, as the RFC asks
    if start >= size or start >= stop:
        raise ApiError(416, "The file ends before the range starts.", headers={"Content-Range": f"bytes */{size}"})
    return start, stop


def _etag_listed(header: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return etag in tags or "*" in tags


def _read(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < stop:
            data = file.read(min(CHUNK, stop - start))
            if not data:
                return
            start += len(data)
            yield data
