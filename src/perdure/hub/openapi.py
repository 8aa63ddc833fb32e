"""The OpenAPI description of the hub, made from its table of addresses, so that none can be missing from it.

What an address takes and gives beyond its path is in `openapi_shapes`, by the name of its handler.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from perdure.hub.core import Access, Call
from perdure.hub.endpoints import Handler, served
from perdure.hub.openapi_shapes import ANSWERS, BODIES, ERROR, QUERIES

_PARAMETER: Final = re.compile(r"\{(\w+):(\w+)\}")
_PACKAGE: Final = "perdure.hub."

_NOBODY: Final[dict[str, list[str]]] = {}
_TOKEN: Final[list[dict[str, list[str]]]] = [{"token": []}, {"password": []}]
# what an address asks of its caller, for those that also answer strangers the empty one
_SECURITY: Final = {
    Access.OPEN: [_NOBODY],
    Access.LINK: [{"link": []}],
    Access.GRANT: [{"grant": []}],
    **dict.fromkeys((Access.USER, Access.PROPOSE, Access.WRITE), _TOKEN),
}
_SCHEMES: Final = {
    "token": {"type": "http", "scheme": "bearer"},
    "password": {"type": "http", "scheme": "basic", "description": "Any user; the password is a token. As git asks."},
    "link": {
        "type": "apiKey", "in": "query", "name": "signature",
        "description": "Comes with the links that `objects/batch` of git-lfs answers.",
    },
    "grant": {"type": "http", "scheme": "bearer", "description": "The `accessToken` of `xet-write-token`."},
}  # fmt: skip
_DESCRIPTION: Final = """\
The protocol of the Hugging Face Hub, for models and datasets. Revisions are one segment: `refs%2Fpr%2F1`.
Errors have `X-Error-Message` and, where clients choose an exception by it, `X-Error-Code`."""


def serve(call: Call) -> Response:
    """This description."""
    return JSONResponse(describe(call.request.app.routes))


def describe(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The description of these addresses, as OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        assert isinstance(route, Route)
        handler, access = served(route.endpoint)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = _operation(route.path, method, handler, access)
            paths.setdefault(_PARAMETER.sub(r"{\1}", route.path), {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "perdure hub", "version": version("perdure"), "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "securitySchemes": _SCHEMES,
            "schemas": {"Error": ERROR},
        },
    }


def name_of(handler: Handler) -> str:
    """How `openapi_shapes` calls a handler: its module within the hub, and its name."""
    return f"{handler.__module__.removeprefix(_PACKAGE)}.{handler.__name__}"


def _operation(path: str, method: str, handler: Handler, access: Access) -> dict[str, Any]:
    name = name_of(handler)
    summary, _, rest = (inspect.getdoc(handler) or "").partition("\n")
    operation: dict[str, Any] = {
        "operationId": re.sub(r"[^a-z0-9]+", "_", f"{method} {path}".lower()).strip("_"),
        "summary": summary,
        "tags": [name.rpartition(".")[0]],
        "parameters": [
            {"name": parameter, "in": "path", "required": True, "schema": _path_schema(convertor)}
            for parameter, convertor in _PARAMETER.findall(path)
        ]
        + [
            {"name": query, "in": "query", "required": False, "schema": schema}
            for query, schema in QUERIES.get(name, {}).items()
        ],
        "responses": {**_success(name), "4XX": _error()},
        "security": _SECURITY.get(access, [_NOBODY, *_TOKEN]),
    }
    if rest.strip():
        operation["description"] = rest.strip()
    if name in BODIES:
        operation["requestBody"] = {"content": {media: {"schema": schema} for media, schema in BODIES[name].items()}}
    return operation


def _path_schema(convertor: str) -> dict[str, Any]:
    if convertor == "kind":
        return {"type": "string", "enum": ["models", "datasets"]}
    return {"type": "string"} if convertor == "tail" else {"type": "string", "minLength": 1}


def _success(name: str) -> dict[str, Any]:
    if name in ANSWERS:
        return {"200": {"description": "Done.", "content": {"application/json": {"schema": ANSWERS[name]}}}}
    if name.startswith("web."):
        return {"2XX": {"description": "A page."}, "3XX": {"description": "Another page."}}
    return {"2XX": {"description": "Done."}, "3XX": {"description": "Not changed, or somewhere else."}}


def _error() -> dict[str, Any]:
    return {
        "description": "What was wrong; nothing was done.",
        "headers": {
            "X-Error-Code": {"schema": {"type": "string"}},
            "X-Error-Message": {"schema": {"type": "string"}},
        },
    }
