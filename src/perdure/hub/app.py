"""The hub as an ASGI application: its table of addresses, and errors as its clients expect them."""

from __future__ import annotations

import errno
import logging
from typing import Final
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from perdure.hub import commits, contents, git_http, info, limits, listing, manage, openapi, people, refs, resolve
from perdure.hub.collaboration import discussion_routes, git_routes
from perdure.hub.core import Access, Hub
from perdure.hub.endpoints import route, run, upload_route
from perdure.hub.envelope import Envelope
from perdure.hub.http import ApiError
from perdure.hub.turns import Turns
from perdure.hub.web import routes as web
from perdure.hub.web.page import error_page, wants_page
from perdure.hub.xet import cas

log = logging.getLogger("perdure.hub")

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _Segment(Convertor[str]):
    """One segment of the address. A revision such as refs%2Fpr%2F1 is one, which is why routes see raw paths."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return value


class _Tail(_Segment):
    regex = ".*"


class _GitName(_Segment):
    """A repository's name in git's addresses, which may end in `.git`; no name itself does."""

    def convert(self, value: str) -> str:
        return unquote(value).removesuffix(".git")


class _Kind(_Segment):
    regex = "models|datasets"

    def convert(self, value: str) -> str:
        return value.removesuffix("s")


register_url_convertor("segment", _Segment())
register_url_convertor("tail", _Tail())
register_url_convertor("kind", _Kind())
register_url_convertor("gitname", _GitName())


def create_app(hub: Hub) -> ASGIApp:
    """The hub's ASGI application over an opened store."""
    app = Starlette(
        routes=_routes(),
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_exception,
            OSError: _os_error,
            Exception: _bug,
        },
    )
    app.router.redirect_slashes = False
    app.state.hub = hub
    app.state.turns = Turns(
        limits.HANDLERS_AT_ONCE, each=limits.HANDLERS_EACH,
        patience=limits.HANDLER_PATIENCE_SECONDS, waiting=limits.CONNECTIONS,
    )  # fmt: skip
    return Envelope(app)


def _routes() -> list[Route]:
    api = "/api/{kind:kind}"
    repo = api + "/{namespace:segment}/{name:segment}"
    revision = "/{revision:segment}"
    branch = "/branch/{branch:tail}"
    read, write, user, anyone = Access.READ, Access.WRITE, Access.USER, Access.ANYONE
    download, propose = Access.DOWNLOAD, Access.PROPOSE
    routes = [
        *web.first_routes(),
        route("GET", "/openapi.json", openapi.serve, anyone),
        route("GET", "/api/whoami-v2", people.whoami, user),
        route("GET", "/api/settings/repositories", people.own_storage, user),
        route("GET", "/api/users/{user:segment}/overview", people.user_overview, user),
        route("GET", "/api/organizations/{organization:segment}/overview", people.organization_overview, user),
        route("GET", "/api/organizations/{organization:segment}/members", people.members, user),
        route(
            "GET",
            "/api/organizations/{organization:segment}/settings/repositories",
            people.organization_storage,
            user,
        ),
        route("POST", "/api/validate-yaml", manage.validate_yaml, anyone),
        route("POST", "/api/repos/create", manage.create_repo, user),
        route("DELETE", "/api/repos/delete", manage.delete_repo, user),
        route("POST", "/api/repos/move", manage.move_repo, user),
        route("GET", api, listing.list_repos, anyone),
        route("GET", repo, info.repo_info, read),
        route("GET", repo + "/revision" + revision, info.repo_info, read),
        route("PUT", repo + "/settings", manage.settings, write),
        route("GET", repo + "/auth-check", manage.auth_check, download),
        route("GET", repo + "/auth-check/write", manage.auth_check, write),
        route("GET", repo + "/refs", refs.list_refs, read),
        route("GET", repo + "/commits" + revision, refs.list_commits, read),
        route("POST", repo + branch, refs.create_branch, write),
        route("DELETE", repo + branch, refs.delete_branch, write),
        route("POST", repo + "/tag" + revision, refs.create_tag, write),
        route("DELETE", repo + "/tag/{revision:tail}", refs.delete_tag, write),
        route("POST", repo + "/super-squash/{branch:tail}", refs.squash, write),
        route("GET", repo + "/tree" + revision, contents.list_tree, read),
        route("GET", repo + "/tree" + revision + "/{path:tail}", contents.list_tree, read),
        route("POST", repo + "/paths-info" + revision, contents.paths_info, read),
        route("POST", repo + "/preupload" + revision, commits.preupload, propose),
        upload_route("POST", repo + "/commit" + revision, commits.create_commit, propose, limit=limits.COMMIT_BODY),
        route("GET", repo + "/xet-write-token" + revision, cas.write_token, propose),
        route("GET", api + "/{name:segment}", manage.no_such_repo, anyone),
        *_cas_routes(),
        *discussion_routes(repo),
        *git_routes(),
    ]
    for prefix in ("/{kind:kind}", ""):
        page = prefix + "/{namespace:segment}/{name:segment}"
        routes += [
            route("GET", page + "/resolve" + revision + "/{path:tail}", resolve.resolve, download),
            route("GET", page + "/raw" + revision + "/{path:tail}", resolve.raw, download),
        ]
    routes.append(route("GET", "/{name:segment}/resolve/{rest:tail}", manage.no_such_repo, anyone))
    return [*routes, *web.repo_routes()]


def _cas_routes() -> list[Route]:
    base = "/cas-{epoch:segment}/v1"
    named = "/{prefix:segment}/{hash:segment}"
    turns = Turns(limits.SHARDS_AT_ONCE, each=limits.SHARDS_EACH, patience=limits.SHARD_PATIENCE_SECONDS)
    shard, xorb, check = limits.SHARD, limits.XORB + limits.MIB, cas.check_access
    return [
        route("GET", base + "/chunks" + named, cas.find_chunk, Access.GRANT, before=check),
        upload_route("POST", base + "/xorbs" + named, cas.put_xorb, Access.GRANT, limit=xorb, before=check),
        upload_route(
            "POST", base + "/shards", cas.put_shard, Access.GRANT,
            limit=shard, before=check, turns=turns,
        ),
    ]  # fmt: skip


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return await _answer(request, error)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {
        404: "There is nothing at this address; this hub keeps models and datasets.",
        405: "This address does not take that method.",
    }
    message = messages.get(error.status_code, error.detail)
    refused = ApiError(error.status_code, message, headers=error.headers)
    return await _answer(request, refused)


async def _os_error(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno in _FULL:
        return await _answer(request, ApiError(507, "The hub's disk is full; nothing of this request was kept."))
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return await _bug(request, error)


async def _bug(request: Request, error: Exception) -> Response:
    return await _answer(request, ApiError(500, "The hub failed at this request; its log says why."))


async def _answer(request: Request, error: ApiError) -> Response:
    if wants_page(request):
        return await run(error_page, request, error)
    return git_http.refusal(request.url.path, error) or error.response()
