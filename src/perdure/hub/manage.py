"""Repositories as a whole: create, delete, move, who may see and download them; card validation."""

from __future__ import annotations

import secrets
import time
from typing import Any

from starlette.responses import JSONResponse, Response

from perdure.hub import attributes, auth
from perdure.hub.card import check_metadata
from perdure.hub.core import PREFIX, Call, forbidden
from perdure.hub.db import Repo
from perdure.hub.http import ApiError, bad_request, field, repo_not_found
from perdure.hub.paths import check_name, check_namespace


def create_repo(call: Call) -> Response:
    """Make a repository, private unless told; 409 with its address when it exists."""
    body = call.json()
    kind, namespace, name = _target(call, body)
    _require_ownership(call, namespace)
    private = _private(body)
    repo = Repo(
        id=secrets.token_hex(16),
        kind=kind,
        namespace=namespace,
        name=name,
        private=True if private is None else private,
        created=time.time(),
    )
    existing = call.hub.db.repo(kind, namespace, name)
    if existing is None:
        # git first: a crash in between leaves a folder that nobody knows, never a repository without one
        call.hub.git.create(repo.id, {".gitattributes": attributes.DEFAULT.encode()}, call.user.name)
        if call.hub.db.add_repo(repo):
            return JSONResponse({"url": call.repo_url(repo), "id": repo.full_name, "name": repo.full_name})
        call.hub.git.delete(repo.id)
        existing = call.hub.db.repo(kind, namespace, name) or repo
    raise ApiError(
        409, f"You already created this {kind} repo: {existing.full_name}", body={"url": call.repo_url(existing)}
    )


def delete_repo(call: Call) -> Response:
    """Remove a repository for good. Its large files stay in the blob store."""
    repo = call.find_repo(*_target(call, call.json()))
    _require_write(call, repo)
    with call.hub.git.writing(repo.id):  # a commit under way ends first; one that waits finds no branch
        if call.hub.db.repo_by_id(repo.id) is None:
            raise repo_not_found()
        call.hub.db.delete_repo(repo)
        call.hub.git.delete(repo.id)
    return JSONResponse({"success": True})


def move_repo(call: Call) -> Response:
    """Give a repository another name or owner; its old address leads to the new one."""
    body = call.json()
    kind = _kind(body)
    repo = call.find_repo(kind, *_split(field(body, "fromRepo", str)))
    _require_write(call, repo)
    namespace, name = _split(field(body, "toRepo", str))
    _require_ownership(call, check_namespace(namespace))
    if not call.hub.db.move_repo(repo, namespace, check_name(name)):
        raise ApiError(409, f"A {kind} repo of the name {namespace}/{name} exists already.")
    return JSONResponse({"success": True, "url": f"{call.base}/{PREFIX[kind]}{namespace}/{name}"})


def settings(call: Call) -> Response:
    """Change who may see a repository and who may download from it; what is not named stays."""
    body = call.json()
    private, gated = _private(body), _gated(body)
    private = call.repo.private if private is None else private
    gated = call.repo.gated if gated is None else gated
    call.hub.db.set_access(call.repo, private=private, gated=gated)
    return JSONResponse({"private": private, "gated": gated or False})


def auth_check(call: Call) -> Response:
    """Answer those whom the route admitted: they may do what they asked about."""
    return JSONResponse({"success": True})


def validate_yaml(call: Call) -> Response:
    """Say what is wrong with a card's metadata; 400 when any of it is an error rather than a warning."""
    errors, warnings = check_metadata(field(call.json(), "content", str))
    report = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return JSONResponse(report, status_code=400 if errors else 200)


def no_such_repo(call: Call) -> Response:
    """The answer at addresses without a namespace: every repository here has one."""
    raise repo_not_found(anonymous=call.caller is None)


def _kind(body: dict[str, Any]) -> str:
    kind = field(body, "type", str, "model")
    if kind not in PREFIX:
        raise bad_request(f"This hub keeps models and datasets; not {kind!r}.")
    return kind


def _target(call: Call, body: dict[str, Any]) -> tuple[str, str, str]:
    name = field(body, "name", str)
    namespace = field(body, "organization", str, None)
    if namespace is None and "/" in name:
        namespace, name = _split(name)
    return _kind(body), check_namespace(namespace or call.user.name), check_name(name)


def _split(full_name: str) -> tuple[str, str]:
    namespace, slash, name = full_name.partition("/")
    if not slash:
        raise bad_request("A repository id has the form namespace/name.")
    return namespace, name


def _private(body: dict[str, Any]) -> bool | None:
    visibility = field(body, "visibility", str, None)
    if visibility is None:
        return field(body, "private", bool, None)
    if visibility not in {"private", "public"}:
        raise bad_request("'visibility' must be 'private' or 'public'.")
    return visibility == "private"


def _gated(body: dict[str, Any]) -> str | None:
    value = body.get("gated")
    if value is not None and value is not False and value not in ("auto", "manual"):
        raise bad_request("'gated' must be 'auto' (everybody with a token), 'manual' (the owner's people) or false.")
    return "" if value is False else value


def _require_ownership(call: Call, namespace: str) -> None:
    if not auth.may_write_in(call.user, namespace):
        raise forbidden(call.user, namespace)


def _require_write(call: Call, repo: Repo) -> None:
    if not auth.may_write(call.caller, repo):
        raise forbidden(call.user, repo.full_name)
