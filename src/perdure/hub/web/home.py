"""The first page, and lists of repositories."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from starlette.responses import PlainTextResponse, Response

from perdure.hub import listing
from perdure.hub.core import PREFIX, Call
from perdure.hub.http import ApiError
from perdure.hub.listing import Row
from perdure.hub.web import page
from perdure.hub.web.links import Links

_SORTS: Final = {"updated": "Recently updated", "created": "Newest", "name": "Name"}
_PAGE: Final = 30
_FIRST: Final = 8


def home(call: Call) -> Response:
    """For a browser the newest models and datasets; one line for everything else."""
    if not page.wants_page(call.request):
        text = f"This is a perdure hub. Use it with any Hugging Face client: HF_ENDPOINT={call.base}\n"
        return PlainTextResponse(text)
    lists = [(kind, _sorted(_visible(call, kind), "updated")) for kind in PREFIX]
    return page.render(call, "home.html", lists=[(kind, rows[:_FIRST], len(rows)) for kind, rows in lists], to=Links.to)


def repositories(call: Call) -> Response:
    """The models or datasets a caller may see; `search`, `sort` and `p` choose among them."""
    kind = call.param("kind")
    return _list(call, kind, _visible(call, kind), address=f"/{kind}s", owner="")


def namespace(call: Call) -> Response:
    """What one user or organisation has, of the kind in the query."""
    owner = call.param("namespace")
    kind = "dataset" if call.query("kind") == "dataset" else "model"
    found = {each: _visible(call, each, owner) for each in PREFIX}
    if not any(found.values()):
        raise ApiError(404, "There is nothing at this address.")
    if not found[kind] and not call.query("kind"):
        kind = "dataset"
    some = next(row.repo for rows in found.values() for row in rows)
    return _list(call, kind, found[kind], address=f"/{some.namespace}", owner=some.namespace)


def _list(call: Call, kind: str, rows: list[Row], *, address: str, owner: str) -> Response:
    search, sort = call.query("search").strip(), call.query("sort", "updated")
    sort = sort if sort in _SORTS else "updated"
    words = search.lower().split()
    ordered = _sorted([row for row in rows if _matches(row, words)], sort)
    number = call.count("p", 0, 10**6)

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
        rows=ordered[number * _PAGE : (number + 1) * _PAGE],
        to=Links.to,
        number=number,
        newer=url(p=number - 1) if number else "",
        older=url(p=number + 1) if len(ordered) > (number + 1) * _PAGE else "",
        url=url,
    )


def _visible(call: Call, kind: str, owner: str = "") -> list[Row]:
    """What the caller may see, newest first; of one namespace, where one is named."""
    return [row for repo in call.repos(kind, owner) if (row := listing.known(call.hub, repo)) is not None]


def _matches(row: Row, words: list[str]) -> bool:
    """Whether each word is in the name or in one of the tags."""
    texts = [row.repo.full_name.lower(), *(tag.lower() for tag in row.facts["tags"])]
    return all(any(word in text for text in texts) for word in words)


def _sorted(rows: list[Row], sort: str) -> list[Row]:
    if sort == "name":
        return sorted(rows, key=lambda row: row.repo.full_name.lower())
    if sort == "updated":
        return sorted(rows, key=lambda row: str(row.facts["lastModified"]), reverse=True)
    return rows
