"""Branches, tags and history."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import islice
from typing import Any, Final

from dulwich.objects import Commit
from starlette.responses import JSONResponse, Response

from perdure.hub.core import Call
from perdure.hub.git import MAIN, revision_not_found
from perdure.hub.http import ApiError, branch_moved, field, message_field
from perdure.hub.paths import check_ref

_LAST: Final = 253402300799
"""The end of the year 9999."""


def list_refs(call: Call) -> Response:
    """All branches and tags with the commits they point to; with `include_prs`, pull requests, too."""
    with call.git() as git:
        branches, tags = git.branches(), git.tags()
        pulls = git.pulls() if call.flag("include_prs") else {}
    known = {str(discussion.num) for discussion in call.hub.discussions.all(call.repo)} if pulls else set()
    return JSONResponse(
        {
            "branches": [_ref(name, f"refs/heads/{name}", sha) for name, sha in branches.items()],
            "tags": [_ref(name, f"refs/tags/{name}", sha) for name, sha in tags.items()],
            "converts": [],
            "pullRequests": [
                _ref(f"refs/pr/{name}", f"refs/pr/{name}", sha) for name, sha in pulls.items() if name in known
            ],
        }
    )


def _ref(name: str, ref: str, sha: bytes) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": sha.decode()}


def create_branch(call: Call) -> Response:
    """Add a branch at `startingPoint` (main unless told); 409 when the name is taken."""
    name = check_ref(call.param("branch"))
    start = field(call.json(), "startingPoint", str, MAIN)
    with call.git() as git:
        if not git.add_branch(name, git.resolve(start).id):
            raise ApiError(409, f"Reference already exists: refs/heads/{name}")
    return JSONResponse({"success": True})


def delete_branch(call: Call) -> Response:
    """Remove a branch, except main."""
    name = check_ref(call.param("branch"))
    if name == MAIN:
        raise ApiError(403, f"The branch {MAIN} cannot be deleted.")
    with call.git() as git:
        if not git.remove_branch(name):
            raise revision_not_found(name)
    return JSONResponse({"success": True})


def create_tag(call: Call) -> Response:
    """Tag a revision, with an annotation if there is a message; 409 when the name is taken."""
    body = call.json()
    name = check_ref(field(body, "tag", str))
    with call.git() as git:
        target = git.resolve(call.param("revision"))
        if not git.add_tag(name, target.id, message_field(body, "message"), call.user.name):
            raise ApiError(409, f"Tag reference exists already: refs/tags/{name}")
    return JSONResponse({"success": True})


def delete_tag(call: Call) -> Response:
    """Remove a tag; 404 when there is none."""
    name = check_ref(call.param("revision"))
    with call.git() as git:
        if not git.remove_tag(name):
            raise revision_not_found(name)
    return JSONResponse({"success": True})


def squash(call: Call) -> Response:
    """Replace a branch's history by one commit with the same files."""
    branch = check_ref(call.param("branch"))
    message = message_field(call.json(), "message") or f"Super-squash branch {branch!r}"
    with call.git() as git, git.writing():
        if branch not in git.branches():
            raise revision_not_found(branch)
        head = git.resolve(f"refs/heads/{branch}")
        new = git.commit([], head.tree, [], call.user.name, message)
        if not git.move_branch(branch, head.id, new):
            raise branch_moved()
    return JSONResponse({"success": True, "commitOid": new.decode()})


def list_commits(call: Call) -> Response:
    """Newest first, `limit` a page (50 unless told), with a Link header to the next; `cursor` is what that one gave.

    All pages are of the history that the first one saw, wherever the branch has gone meanwhile.
    """
    size = max(1, call.count("limit", 50, 1000))
    page = call.count("p", 0, 10**6)
    with call.git() as git:
        newest = git.resolve(call.query("cursor") or call.param("revision"))
        commits = list(islice(git.history(newest), page * size, (page + 1) * size + 1))
    headers = {}
    if len(commits) > size:
        url = call.request.url.include_query_params(p=page + 1, limit=size, cursor=newest.id.decode())
        headers["Link"] = f'<{url}>; rel="next"'
    return JSONResponse([commit_facts(commit) for commit in commits[:size]], headers=headers)


def commit_facts(commit: Commit) -> dict[str, Any]:
    """A commit as clients read it: its message's first line apart from the rest."""
    title, _, message = commit.message.decode("utf-8", "replace").partition("\n")
    author = commit.author.decode("utf-8", "replace").partition(" <")[0]
    return {
        "id": commit.id.decode(),
        "title": title,
        "message": message.strip(),
        "date": timestamp(commit.commit_time),
        "authors": [{"user": author}],
    }


def timestamp(seconds: float) -> str:
    """As the Hub writes moments: UTC, milliseconds."""
    moment = datetime.fromtimestamp(min(max(seconds, 0), _LAST), tz=timezone.utc)  # a commit's clock may be anything
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
