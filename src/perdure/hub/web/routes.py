"""The addresses of the pages: those that clients print, and a few of their own."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Route

from perdure.hub.core import Access
from perdure.hub.endpoints import Handler, endpoint
from perdure.hub.web import compare, files, history, home, page, repo, sign_in, talk

_FORM = 8 * 1024


class _Owner(Convertor[str]):
    """A namespace: one segment, and not the first of the protocol's own addresses."""

    regex = "(?!(?:api|lfs|cas-[^/]*|-)(?:/|$))[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("owner", _Owner())


def first_routes() -> list[Route]:
    """Addresses that no namespace can have; they come before every other."""
    return [
        _route("/", home.home, Access.PAGE),
        _route("/-/static/{file:segment}", page.static, Access.SIGNED),
        _route("/login", sign_in.form, Access.PAGE),
        _route("/login", sign_in.sign_in, Access.PAGE, "POST"),
        _route("/-/logout", sign_in.sign_out, Access.PAGE, "POST"),
        _route("/{kind:kind}", home.repositories, Access.PAGE),
    ]


def repo_routes() -> list[Route]:
    """The pages of repositories and namespaces; they come after the addresses that clients use."""
    routes = []
    at = "/{revision:segment}"
    for prefix in ("/{kind:kind}", ""):
        base = prefix + "/{namespace:owner}/{name:segment}"
        routes += [
            _route(base, repo.card, Access.VIEW),
            _route(base + "/tree" + at, files.folder, Access.VIEW),
            _route(base + "/tree" + at + "/{path:tail}", files.folder, Access.VIEW),
            _route(base + "/blob" + at + "/{path:tail}", files.file, Access.DOWNLOAD),
            _route(base + "/commits" + at, history.commits, Access.VIEW),
            _route(base + "/commits" + at + "/{path:tail}", history.commits, Access.VIEW),
            _route(base + "/commit" + at, history.commit, Access.DOWNLOAD),
            _route(base + "/refs", history.refs, Access.VIEW),
            _route(base + "/checkpoints", compare.checkpoints, Access.VIEW),
            _route(base + "/discussions", talk.discussions, Access.VIEW),
            _route(base + "/discussions/{num:segment}", talk.discussion, Access.DOWNLOAD),
        ]
    return [*routes, _route("/{namespace:owner}", home.namespace, Access.PAGE)]


def _route(path: str, handler: Handler, access: Access, method: str = "GET") -> Route:
    return Route(path, endpoint(handler, access=access, limit=_FORM), methods=[method])
