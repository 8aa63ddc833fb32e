"""The first page, and lists of repositories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from starlette.responses import PlainTextResponse, Response

from perdure.hub import auth
from perdure.hub.core import Call
from perdure.hub.db import Repo
from perdure.hub.git import MAIN
from perdure.hub.http import ApiError
from perdure.hub.web import page
from perdure.hub.web.facts import Facts, facts_of
from perdure.hub.web.links import Links

_KINDS: Final = ("model", "dataset")
_SORTS: Final = {"updated": "Recently updated", "created": "Newest", "name": "Name"}
_PAGE: Final = 30
_FIRST: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A repository in a list."""

    repo: Repo
    url: str
    facts: Facts


def home(call: Call) -> Response:
    """For a browser the newest models and datasets; one line for everything else."""
    if not page.wants_page(call.request):
        text = f"This is a perdure hub. Use it with any Hugging Face client: HF_ENDPOINT={call.base}\n"
        return PlainTextResponse(text)
    lists = [(kind, _sorted(call, _visible(call, kind), "updated")) for kind in _KINDS]
    shown = [(kind, _rows(call, repos[:_FIRST]), len(repos)) for kind, repos in lists]
    return page.render(call, "home.html", lists=shown, search="")


def repositories(call: Call) -> Response:
    """The models or datasets a caller may see; `search`, `sort` and `p` choose among them."""
    kind = call.param("kind")
    return _list(call, kind, _visible(call, kind), address=f"/{kind}s", owner="")


def namespace(call: Call) -> Response:
    """What one user or organisation has, of the kind in the query."""
    owner = call.param("namespace")
    kind = "dataset" if call.query("kind") == "dataset" else "model"
    found = {
        each: [repo for repo in _visible(call, each) if repo.namespace.lower() == owner.lower()] for each in _KINDS
    }
    if not any(found.values()):
        raise ApiError(404, "There is nothing at this address.")
    if not found[kind] and not call.query("kind"):
        kind = "dataset"
    some = next(repo for repos in found.values() for repo in repos)
    return _list(call, kind, found[kind], address=f"/{some.namespace}", owner=some.namespace)


def _list(call: Call, kind: str, repos: list[Repo], *, address: str, owner: str) -> Response:
    search, sort = call.query("search").strip(), call.query("sort", "updated")
    sort = sort if sort in _SORTS else "updated"
    words = search.lower().split()
    matching = [repo for repo in repos if all(word in repo.full_name.lower() for word in words)]
    number = call.count("p", 0, 10**6)
    ordered = _sorted(call, matching, sort)

    def url(**changes: object) -> str:
        query = {"kind": kind if owner else "", "search": search, "sort": sort, "p": ""} | changes
        kept = {name: value for name, value in query.items() if value and (name, value) != ("sort", "updated")}
        return address + (f"?{urlencode(kept)}" if kept else "")

    return page.render(
        call,
        "list.html",
        kind=kind,
        owner=owner,
        address=address,
        search=search,
        sort=sort,
        sorts=_SORTS,
        total=len(ordered),
        rows=_rows(call, ordered[number * _PAGE : (number + 1) * _PAGE]),
        number=number,
        newer=url(p=number - 1) if number else "",
        older=url(p=number + 1) if len(ordered) > (number + 1) * _PAGE else "",
        url=url,
    )


def _visible(call: Call, kind: str) -> list[Repo]:
    return [repo for repo in call.hub.db.repos(kind) if auth.may_read(call.caller, repo)]


def _sorted(call: Call, repos: list[Repo], sort: str) -> list[Repo]:
    if sort == "name":
        return sorted(repos, key=lambda repo: repo.full_name.lower())
    if sort == "updated":
        return sorted(repos, key=lambda repo: -_updated(call, repo))
    return repos


def _updated(call: Call, repo: Repo) -> float:
    try:
        with call.hub.git.open(repo.id) as git:
            return float(git.resolve(MAIN).commit_time)
    except ApiError:  # deleted while we were looking
        return repo.created


def _rows(call: Call, repos: list[Repo]) -> list[Row]:
    rows = []
    for repo in repos:
        try:
            with call.hub.git.open(repo.id) as git:
                rows.append(Row(repo=repo, url=Links.to(repo).base, facts=facts_of(call.hub, git, git.resolve(MAIN))))
        except ApiError:
            continue
    return rows
