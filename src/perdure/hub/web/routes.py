"""The addresses of the pages: those that clients print, and a few of their own."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Route

from perdure.hub import limits
from perdure.hub.core import Access
from perdure.hub.endpoints import route
from perdure.hub.web import compare, files, history, home, page, repo, sign_in, talk


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
        route("GET", "/", home.home, Access.PAGE),
        route("GET", "/-/static/{file:segment}", page.static, Access.OPEN),
        route("GET", "/login", sign_in.form, Access.PAGE),
        route("POST", "/login", sign_in.sign_in, Access.PAGE, limit=limits.FORM),
        route("POST", "/-/logout", sign_in.sign_out, Access.PAGE, limit=limits.FORM),
        route("GET", "/{kind:kind}", home.repositories, Access.PAGE),
    ]


def repo_routes() -> list[Route]:
    """The pages of repositories and namespaces; they come after the addresses that clients use."""
    routes = []
    at = "/{revision:segment}"
    for prefix in ("/{kind:kind}", ""):
        base = prefix + "/{namespace:owner}/{name:segment}"
        routes += [
            route("GET", base, repo.card, Access.VIEW),
            route("GET", base + "/tree" + at, files.folder, Access.VIEW),
            route("GET", base + "/tree" + at + "/{path:tail}", files.folder, Access.VIEW),
            route("GET", base + "/blob" + at + "/{path:tail}", files.file, Access.DOWNLOAD),
            route("GET", base + "/commits" + at, history.commits, Access.VIEW),
            route("GET", base + "/commits" + at + "/{path:tail}", history.commits, Access.VIEW),
            route("GET", base + "/commit" + at, history.commit, Access.DOWNLOAD),
            route("GET", base + "/refs", history.refs, Access.VIEW),
            route("GET", base + "/checkpoints", compare.checkpoints, Access.DOWNLOAD),
            route("GET", base + "/discussions", talk.discussions, Access.VIEW),
            route("GET", base + "/discussions/{num:segment}", talk.discussion, Access.DOWNLOAD),
        ]
    return [*routes, route("GET", "/{namespace:owner}", home.namespace, Access.PAGE)]
