"""Users and organisations as clients see them: who is who, and what is in a namespace."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from perdure.errors import NotFound
from perdure.hub import tree
from perdure.hub.accounts import Accounts
from perdure.hub.core import Call
from perdure.hub.git import MAIN
from perdure.hub.http import ApiError
from perdure.hub.orgs import Organization, Organizations
from perdure.hub.refs import timestamp


def whoami(call: Call) -> Response:
    """The caller's name and organisations, and their token's label and role."""
    caller = call.user
    return JSONResponse(
        {
            "type": "user",
            "id": str(caller.user.id),
            "name": caller.name,
            "fullname": caller.name,
            "email": None,
            "isPro": False,
            "orgs": [{"type": "org", "id": name, **_named(name), "roleInOrg": role} for name, role in _orgs(call)],
            "auth": {"type": "access_token", "accessToken": {"displayName": caller.label, "role": caller.role}},
        }
    )


def user_overview(call: Call) -> Response:
    """A user, their organisations, and how many repositories of theirs the caller may see."""
    user = Accounts(call.hub.db).user(call.param("user"))
    if user is None:
        raise ApiError(404, f"There is no user {call.param('user')!r}.")
    orgs = Organizations(call.hub.db).memberships(user)
    return JSONResponse(
        {"type": "user", "user": user.name, "fullname": user.name, "orgs": [_named(name) for name in orgs]}
        | _counts(call, user.name)
    )


def organization_overview(call: Call) -> Response:
    """An organisation, and how many repositories of its the caller may see."""
    organization = _organization(call)
    return JSONResponse(
        {"type": "org", **_named(organization.name), "numUsers": len(organization.members)}
        | _counts(call, organization.name)
    )


def members(call: Call) -> Response:
    """Who is a member of an organisation."""
    return JSONResponse([{"user": name, "fullname": name, "type": "user"} for name in _organization(call).members])


def own_storage(call: Call) -> Response:
    """The caller's repositories, with the bytes of their newest files."""
    return JSONResponse(_storage(call, call.user.name))


def organization_storage(call: Call) -> Response:
    """An organisation's repositories, with the bytes of their newest files."""
    return JSONResponse(_storage(call, _organization(call).name))


def _organization(call: Call) -> Organization:
    try:
        return Organizations(call.hub.db).get(call.param("organization"))
    except NotFound as error:
        raise ApiError(404, error.message) from error


def _orgs(call: Call) -> list[tuple[str, str]]:
    return sorted(call.user.orgs.items())


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "fullname": name, "avatarUrl": "", "isEnterprise": False}


def _counts(call: Call, namespace: str) -> dict[str, int]:
    kinds = [repo.kind for repo in call.repos(namespace=namespace)]
    return {"numModels": kinds.count("model"), "numDatasets": kinds.count("dataset"), "numSpaces": 0}


def _storage(call: Call, namespace: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for repo in call.repos(namespace=namespace):
        try:
            with call.hub.git.open(repo.id) as git:
                commit = git.resolve(MAIN)
                storage = sum(entry.size for entry in tree.files(git, commit))
        except ApiError:  # deleted while we were listing
            continue
        rows.append(
            {
                "id": repo.full_name,
                "type": repo.kind,
                "updatedAt": timestamp(commit.commit_time),
                "visibility": "private" if repo.private else "public",
                "storage": storage,
            }
        )
    total = sum(row["storage"] for row in rows) or 1
    return [{**row, "storagePercent": 100 * row["storage"] / total} for row in rows]
