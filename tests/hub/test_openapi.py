"""The OpenAPI description is true: every address is in it, and a property-based API tester that reads it finds no 500.

PERDURE_FUZZ_EXAMPLES=200 makes it look longer than in every run of the tests, and elsewhere each time.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hubs import TOKEN, ask, ndjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from starlette.routing import Route

from perdure.hub import app, openapi, openapi_shapes
from perdure.hub.core import Call
from perdure.hub.endpoints import served
from perdure.hub.server import HubServer

EXAMPLES = int(os.environ.get("PERDURE_FUZZ_EXAMPLES", "0"))
ROUTES = app._routes()
SCHEMA = schemathesis.openapi.from_dict(openapi.describe(ROUTES))
OPERATIONS = {f"{op.method.upper()} {op.path}": op for op in (found.ok() for found in SCHEMA.get_all_operations())}

# what is there, so that requests also get beyond the first question
_THERE = {
    "kind": "models", "namespace": "me", "name": "target", "revision": "main", "branch": "main", "path": "a.txt",
    "user": "me", "num": "1", "oid": "0" * 64, "prefix": "default",
}  # fmt: skip


@schemathesis.serializer("application/x-ndjson")
def _lines(context: object, value: Any) -> bytes:
    return b"\n".join(json.dumps(line).encode() for line in value) if isinstance(value, list) else b"\xff"


for _media in ("application/x-git-upload-pack-request", "application/x-git-receive-pack-request"):

    @schemathesis.serializer(_media)
    def _plain(context: object, value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.serializer("application/vnd.git-lfs+json")
def _lfs(context: object, value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture(scope="module", autouse=True)
def repo(server: HubServer) -> None:
    assert ask(server.url, "POST", "/api/repos/create", {"name": "target", "private": False}).status == 200
    commit = ndjson(("file", {"path": "a.txt", "content": "YQ==", "encoding": "base64"}))
    assert ask(server.url, "POST", "/api/models/me/target/commit/main", commit).status == 200
    discussion = {"title": "about it", "pullRequest": True}
    assert ask(server.url, "POST", "/api/models/me/target/discussions", discussion).status == 200


@pytest.fixture(scope="module")
def asked(server: HubServer) -> Iterator[dict[str, set[str]]]:
    """Handler → the parameters of the query string that it looked at."""
    seen: dict[str, set[str]] = {}
    query = Call.query

    def noted(call: Call, name: str, default: str = "") -> str:
        seen.setdefault(openapi.name_of(served(call.request.scope["endpoint"])[0]), set()).add(name)
        return query(call, name, default)

    patch = pytest.MonkeyPatch()
    patch.setattr(Call, "query", noted)
    yield seen
    patch.undo()


def test_every_address_is_described_and_nothing_else(server: HubServer) -> None:
    described = ask(server.url, "GET", "/openapi.json", token=None).json()
    assert described == openapi.describe(ROUTES)
    wanted = {
        (re.sub(r":\w+\}", "}", route.path), method.lower())
        for route in ROUTES
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {(path, method) for path, item in described["paths"].items() for method in item} == wanted
    handlers = {openapi.name_of(served(route.endpoint)[0]) for route in ROUTES}
    for table in (openapi_shapes.QUERIES, openapi_shapes.BODIES, openapi_shapes.ANSWERS):
        assert table.keys() <= handlers
    for path, item in described["paths"].items():
        for operation in item.values():
            assert operation["summary"], path
            names = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert names == set(re.findall(r"\{(\w+)\}", path))
    identities = [operation["operationId"] for item in described["paths"].values() for operation in item.values()]
    assert len(identities) == len(set(identities))


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_address_asks_for_a_token_where_it_is_said_to(server: HubServer, name: str) -> None:
    method, _, path = name.partition(" ")
    security = openapi.describe(ROUTES)["paths"][path][method.lower()]["security"]
    there = re.sub(r"\{(\w+)\}", lambda match: _THERE.get(match[1], "x"), path)
    answer = ask(server.url, method, there, token=None)
    if {} in security:
        assert "www-authenticate" not in answer.headers
    else:
        assert answer.status in {401, 403}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_api_tester_finds_no_500_and_nothing_that_is_not_described(
    server: HubServer, asked: dict[str, set[str]], name: str
) -> None:
    operation = OPERATIONS[name]

    @settings(
        max_examples=EXAMPLES or 6,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), there=st.booleans(), known=st.booleans())
    def search(case: Case, there: bool, known: bool) -> None:
        if there:
            case.path_parameters = {key: _THERE.get(key, value) for key, value in case.path_parameters.items()}
        headers = {"Authorization": f"Bearer {TOKEN}"} if known else {}
        response = case.call(base_url=server.url, headers=headers, timeout=60, allow_redirects=False)
        checks = (not_a_server_error, status_code_conformance, response_schema_conformance)
        case.validate_response(response, checks=checks)
        assert response.headers["x-request-id"]

    search()
    handler = openapi.name_of(served(next(r for r in ROUTES if _is(r, name)).endpoint)[0])
    assert asked.get(handler, set()) <= openapi_shapes.QUERIES.get(handler, {}).keys()


def _is(route: Route, name: str) -> bool:
    method, _, path = name.partition(" ")
    return re.sub(r":\w+\}", "}", route.path) == path and method in (route.methods or set())
