"""git-lfs's file locking.

Specification: https://github.com/git-lfs/git-lfs/blob/main/docs/api/locking.md
"""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import JSONResponse, Response

from perdure.hub import auth
from perdure.hub.core import Call, forbidden
from perdure.hub.http import ApiError, bad_request, field
from perdure.hub.locks import Lock
from perdure.hub.paths import check_path
from perdure.hub.refs import timestamp

_MEDIA_TYPE: Final = "application/vnd.git-lfs+json"
_PAGE: Final = 100


def list_locks(call: Call) -> Response:
    """All locks, a page at a time; `path` and `id` narrow it."""
    path, identity = call.query("path"), call.query("id")
    locks = [lock for lock in call.hub.locks.all(call.repo) if path in {"", lock.path} and identity in {"", lock.id}]
    page, cursor = _page(locks, call.query("cursor"), call.count("limit", _PAGE, _PAGE))
    return _answer({"locks": [_facts(lock) for lock in page], **cursor})


def verify_locks(call: Call) -> Response:
    """The same, apart for the caller's and everybody else's: what git-lfs asks before it pushes."""
    body = call.json()
    limit = field(body, "limit", int, _PAGE)
    if limit < 0:
        raise bad_request("'limit' must not be negative.")
    page, cursor = _page(call.hub.locks.all(call.repo), field(body, "cursor", str, ""), min(limit, _PAGE))
    ours = [_facts(lock) for lock in page if lock.owner == call.user.name]
    theirs = [_facts(lock) for lock in page if lock.owner != call.user.name]
    return _answer({"ours": ours, "theirs": theirs, **cursor})


def create_lock(call: Call) -> Response:
    """Lock a path; 409 with the lock when somebody has it."""
    path = check_path(field(call.json(), "path", str))
    lock = call.hub.locks.add(call.repo, path, call.user.name)
    if lock is not None:
        return _answer({"lock": _facts(lock)}, status=201)
    held = next((lock for lock in call.hub.locks.all(call.repo) if lock.path == path), None)
    message = f"{path} is locked already."
    raise ApiError(409, message, body={"message": message, **({"lock": _facts(held)} if held else {})})


def delete_lock(call: Call) -> Response:
    """Give a lock back; with `force`, who may write to the repository can take somebody else's away."""
    force = field(call.json(), "force", bool, False)
    lock = next((lock for lock in call.hub.locks.all(call.repo) if lock.id == call.param("lock")), None)
    if lock is None:
        raise ApiError(404, "There is no such lock.", body={"message": "There is no such lock."})
    if lock.owner != call.user.name and not (force and auth.may_write(call.caller, call.repo)):
        raise forbidden(call.user, f"the lock of {lock.owner}")
    call.hub.locks.remove(call.repo, lock)
    return _answer({"lock": _facts(lock)})


def _page(locks: list[Lock], cursor: str, limit: int) -> tuple[list[Lock], dict[str, str]]:
    start = next((i for i, lock in enumerate(locks) if lock.id == cursor), 0)
    stop = start + max(1, limit)
    return locks[start:stop], {"next_cursor": locks[stop].id} if len(locks) > stop else {}


def _facts(lock: Lock) -> dict[str, Any]:
    return {"id": lock.id, "path": lock.path, "locked_at": timestamp(lock.created), "owner": {"name": lock.owner}}


def _answer(body: dict[str, Any], *, status: int = 200) -> Response:
    return JSONResponse(body, status_code=status, media_type=_MEDIA_TYPE)
