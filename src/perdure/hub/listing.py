"""Lists of repositories: search, filters, order, and pages that neither repeat nor skip a row."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from perdure.hub import info, limits
from perdure.hub.briefs import Brief
from perdure.hub.core import Call, Hub
from perdure.hub.db import Repo
from perdure.hub.git import MAIN
from perdure.hub.http import ApiError, bad_request
from perdure.hub.refs import timestamp

_PAGE: Final = 1000

# What a row says when the client asks for nothing more
_BRIEF: Final = (
    "_id", "id", "modelId", "author", "sha", "private", "gated", "disabled", "createdAt", "lastModified", "downloads",
    "likes", "trendingScore", "tags", "pipeline_tag", "library_name",
)  # fmt: skip

# Nothing here is served by inference providers, or known to work with an app: such a filter finds nothing.
_UNKNOWN_FILTERS: Final = ("inference", "inference_provider", "apps")

_SUFFIXES: Final = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_BOUND: Final = re.compile(r"(min|max):(\d{1,6}(?:\.\d{1,3})?)([KMBT]?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A repository on its way into a list: its brief facts, and the number of its parameters."""

    repo: Repo
    facts: dict[str, Any]
    parameters: int


def list_repos(call: Call) -> Response:
    """Repositories the caller may read that match all filters, newest first unless `sort` says otherwise.

    Filters are `search` (in the id), `author`, `filter` (tags), `pipeline_tag`, `library`, `gated`, `num_parameters`.
    """
    kind = call.param("kind")
    key = _order(call)
    limit = max(1, call.count("limit", _PAGE, _PAGE))
    wanted = info.expanded(call, kind)
    rows = sorted(filter(_matcher(call), _rows(call, kind)), key=key, reverse=call.query("direction", "-1") != "1")
    found = list(islice(_after(call, rows, key), limit + 1))
    headers = {}
    if len(found) > limit:
        url = call.request.url.include_query_params(cursor=_cursor(key(found[limit - 1])))
        headers["Link"] = f'<{url}>; rel="next"'
    answer, most = [], limits.SIBLINGS
    for row in found[:limit]:
        answer.append(_shown(call, row, wanted, most))
        most -= len(answer[-1].get("siblings", ()))
    return JSONResponse(answer, headers=headers)


def _rows(call: Call, kind: str) -> Iterator[Row]:
    words = [word for text in call.request.query_params.getlist("search") for word in text.lower().split()]
    if any(call.query(name) for name in _UNKNOWN_FILTERS):
        return
    for repo in call.repos(kind, call.query("author")):
        name = repo.full_name.lower()
        if all(word in name for word in words) and (row := known(call.hub, repo)) is not None:
            yield row


def _matcher(call: Call) -> Callable[[Row], bool]:
    params = call.request.query_params
    tags = {tag for value in params.getlist("filter") for tag in value.split(",") if tag}
    fields = {"pipeline_tag": call.query("pipeline_tag"), "library_name": call.query("library")}
    gated = call.query("gated").lower()
    least, most = _bounds(call.query("num_parameters"))

    def matches(row: Row) -> bool:
        return (
            tags <= set(row.facts["tags"])
            and all(row.facts.get(name) == value for name, value in fields.items() if value)
            and gated in {"", "true" if row.repo.gated else "false"}
            and (least is None or row.parameters >= least)
            and (most is None or 0 < row.parameters <= most)
        )

    return matches


def _bounds(text: str) -> tuple[float | None, float | None]:
    """The least and the most parameters, from text such as `min:6B,max:128B`."""
    bounds: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        match = _BOUND.fullmatch(part.strip())
        if match is None:
            raise bad_request("'num_parameters' must be of the form min:6B,max:128B.")
        bounds[match[1].lower()] = float(match[2]) * _SUFFIXES[match[3].upper()]
    return bounds.get("min"), bounds.get("max")


def _order(call: Call) -> Callable[[Row], list[str]]:
    """What rows are sorted by; the id makes it different for every row."""
    sort = call.query("sort") or "createdAt"
    if sort in {"downloads", "likes", "trendingScore"}:  # not counted here, so all are equal
        sort = "createdAt"
    if sort not in {"createdAt", "lastModified", "id"}:
        raise bad_request("'sort' must be createdAt, lastModified, id, downloads, likes or trendingScore.")
    return lambda row: [row.facts[sort], row.repo.id]


def _after(call: Call, rows: Iterable[Row], key: Callable[[Row], list[str]]) -> Iterator[Row]:
    """What comes after the row that the last page ended with, whether or not that one is still there."""
    cursor = call.query("cursor")
    if not cursor:
        return iter(rows)
    try:
        last = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, binascii.Error, RecursionError):
        last = None
    if not isinstance(last, list) or len(last) != 2 or not all(isinstance(part, str) for part in last):
        raise bad_request("'cursor' must be one that this hub gave.")
    if call.query("direction", "-1") == "1":
        return (row for row in rows if key(row) > last)
    return (row for row in rows if key(row) < last)


def _cursor(key: list[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _shown(call: Call, row: Row, wanted: list[str], most: int) -> dict[str, Any]:
    names = set(wanted)
    if call.flag("full"):
        names |= {"siblings", "cardData"}
    names |= {name for flag, name in (("cardData", "cardData"), ("config", "config")) if call.flag(flag)}
    facts = row.facts
    if names - facts.keys():
        try:
            with call.hub.git.open(row.repo.id) as git:
                commit = git.resolve(MAIN)
                if names & {"siblings", "usedStorage"}:
                    facts = info.all_facts(call.hub, row.repo, git, commit, most=most)
                else:
                    facts = info.brief_facts(call.hub, row.repo, git, commit)
        except ApiError:  # deleted while we were listing
            names &= facts.keys()
    return info.select(facts, wanted if wanted else [*_BRIEF, *sorted(names)])


def known(hub: Hub, repo: Repo) -> Row | None:
    """A repository's brief facts, remembered by its newest commit; None when it was deleted a moment ago."""
    newest = hub.git.newest(repo.id)
    try:
        brief = (hub.briefs.get(repo.id, newest) if newest else None) or _learn(hub, repo)
    except ApiError:
        return None
    # what no commit says
    told = {
        "id": repo.full_name,
        "author": repo.namespace,
        "private": repo.private,
        "gated": repo.gated or False,
        "createdAt": timestamp(repo.created),
        **({"modelId": repo.full_name} if repo.kind == "model" else {}),
    }
    return Row(repo=repo, facts=brief.facts | told, parameters=brief.parameters)


def _learn(hub: Hub, repo: Repo) -> Brief:
    with hub.git.open(repo.id) as git:
        commit = git.resolve(MAIN)
        facts = info.brief_facts(hub, repo, git, commit)
    weights = facts.get("safetensors")
    brief = Brief(
        facts={name: facts[name] for name in _BRIEF if name in facts}, parameters=weights["total"] if weights else 0
    )
    hub.briefs.remember(repo.id, commit.id, brief)
    return brief
