"""Pages: the templates, the headers that each has, error pages, and who gets a page rather than JSON."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from perdure._optional import require
from perdure.hub.auth import Caller
from perdure.hub.core import Call, Hub
from perdure.hub.http import ApiError
from perdure.hub.web import text

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE: Final = Path(__file__).parent
_STATIC: Final = {"style.css": "text/css", "hub.js": "text/javascript", "icon.svg": "image/svg+xml"}
_NOT_PAGES: Final = ("/api/", "/lfs/", "/cas-")

HEADERS: Final = {
    # no inline script or style, nothing from or to another server, and no frame around it: what a card or a file's
    # name could smuggle past the templates would still do nothing
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
    "Vary": "Accept, Authorization, Cookie",
}


def render(call: Call, template: str, **context: object) -> Response:
    """A page from a template. The context has the request's `call` and what every template needs."""
    return _response(call.request, call.caller, template, context)


def wants_page(request: Request) -> bool:
    """Whether a person asks: their browsers name HTML among what they take, and the protocol's clients never do."""
    asks = request.method in {"GET", "HEAD"} and "text/html" in request.headers.get("accept", "")
    return asks and not request.url.path.startswith(_NOT_PAGES)


def error_page(request: Request, error: ApiError) -> Response:
    """What went wrong, as a page. Somebody who is not signed in is told that signing in may help."""
    if "location" in {name.lower() for name in error.headers}:
        return error.response()
    hub: Hub = request.app.state.hub
    caller = hub.sessions.caller(hub.db, request.cookies)
    status = 404 if error.code == "RepoNotFound" else error.status
    page = _response(request, caller, "error.html", {"status": status, "message": error.message})
    page.status_code = status
    return page


def static(call: Call) -> Response:
    """A style sheet, script or picture of the pages' own."""
    name = call.param("file")
    if name not in _STATIC:
        raise ApiError(404, "There is nothing at this address.")
    data, etag = _asset(name)
    headers = {
        "ETag": etag,
        "X-Content-Type-Options": "nosniff",
        # their addresses hold a digest, so a browser may keep them for good
        "Cache-Control": "public, max-age=31536000, immutable" if call.query("v") else "no-cache",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    }
    if call.request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=_STATIC[name], headers=headers)


@lru_cache(maxsize=len(_STATIC))
def _asset(name: str) -> tuple[bytes, str]:
    data = (_HERE / "static" / name).read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def _asset_url(name: str) -> str:
    return f"/-/static/{name}?v={_asset(name)[1].strip(chr(34))}"


def _response(request: Request, caller: Caller | None, template: str, context: Mapping[str, object]) -> Response:
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    body = (
        _environment()
        .get_template(template)
        .render(
            caller=caller,
            endpoint=str(request.base_url).rstrip("/"),
            here=quote(here, safe=""),
            now=time.time(),
            **context,
        )
    )
    return Response(body, media_type="text/html", headers=HEADERS)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    jinja2 = require("jinja2", "The hub's web page")
    environment: Environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Any] = {
        "size": text.size, "count": text.count, "metric": text.metric, "ago": text.ago, "moment": text.moment,
        "seconds": text.seconds, "asset": _asset_url,
    }  # fmt: skip
    environment.filters.update(filters)
    return environment
