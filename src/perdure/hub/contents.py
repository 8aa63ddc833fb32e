"""Listing what is in a revision: folders, and facts about named paths."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qs

from dulwich.objects import Commit
from starlette.responses import JSONResponse, Response

from perdure.hub import limits, tree
from perdure.hub.core import Call
from perdure.hub.git import GitRepo
from perdure.hub.http import bad_request, field
from perdure.hub.paths import check_path
from perdure.hub.refs import commit_facts
from perdure.hub.tree import Entry

_PAGE: Final = 1000
_CURSOR: Final = re.compile(r"([0-9a-f]{40}):([0-9]{1,9})")


def list_tree(call: Call) -> Response:
    """What is in a folder of a revision: its direct members, or with `recursive` everything below it; in pages.

    The next page is of the same commit as the first, wherever the branch has gone meanwhile.
    """
    path = call.request.path_params.get("path", "").strip("/")
    if path:
        check_path(path)
    revision, offset = _cursor(call)
    limit = max(1, call.count("limit", _PAGE, _PAGE))
    with call.git() as git:
        commit = git.resolve(revision)
        folder = tree.find(git, commit, path)
        if folder is None or not folder.folder:
            raise tree.entry_not_found(path, commit)
        everything = tree.walk(git, folder, recursive=call.flag("recursive"))
        entries = list(islice(everything, offset, offset + limit + 1))
        answer = _listing(git, commit, entries[:limit], expand=call.flag("expand"))
    if len(entries) > limit:
        url = call.request.url.include_query_params(cursor=f"{commit.id.decode()}:{offset + limit}")
        answer.headers["Link"] = f'<{url}>; rel="next"'
    return answer


def _cursor(call: Call) -> tuple[str, int]:
    """The revision to list and how many entries earlier pages had."""
    cursor = call.query("cursor")
    if not cursor:
        return call.param("revision"), 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise bad_request("'cursor' must be one that this hub gave.")
    return match[1], int(match[2])


def paths_info(call: Call) -> Response:
    """Facts about the paths asked for; one that is not there is left out of the answer."""
    paths, expand = _wanted(call)
    with call.git() as git:
        commit = git.resolve(call.param("revision"))
        # sorted, so that what is in one folder comes together, and no folder is read twice
        found = {path: tree.find(git, commit, check_path(path.strip("/"))) for path in sorted(set(paths))}
        entries = [entry for path in dict.fromkeys(paths) if (entry := found[path]) is not None]
        return _listing(git, commit, entries, expand=expand)


def _wanted(call: Call) -> tuple[list[str], bool]:
    """The paths asked for, and whether to say what changed them last; Python sends a form, others JSON."""
    if call.request.headers.get("content-type", "").startswith("application/json"):
        body = call.json()
        paths, expand = body.get("paths", []), field(body, "expand", bool, False)
    else:
        try:
            form = parse_qs(call.body.decode("ascii"), max_num_fields=limits.PATHS + 1, errors="strict")
        except ValueError as error:
            raise bad_request("The request body is not a valid form.") from error
        paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() in {"1", "true"}
    if isinstance(paths, str):
        paths = [paths]
    if not isinstance(paths, list) or len(paths) > limits.PATHS or not all(isinstance(p, str) for p in paths):
        raise bad_request(f"'paths' must be a list of at most {limits.PATHS} strings.")
    return paths, expand


def _listing(git: GitRepo, commit: Commit, entries: list[Entry], *, expand: bool) -> Response:
    rows = [_row(entry) for entry in entries]
    if expand:
        last = tree.last_commits(git, commit, entries)
        for row in rows:
            facts = commit_facts(last[row["path"]])
            row["lastCommit"] = {key: facts[key] for key in ("id", "title", "date")}
    return JSONResponse(rows, headers={"X-Repo-Commit": commit.id.decode()})


def _row(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {
        "type": "directory" if entry.folder else "file",
        "oid": entry.oid.decode(),
        "size": entry.size,
        "path": entry.path,
    }
    if entry.lfs:
        row["lfs"] = {"oid": entry.lfs.oid, "size": entry.lfs.size, "pointerSize": entry.lfs.pointer_size}
    return row
