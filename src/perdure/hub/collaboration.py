"""The addresses of git, git-lfs and pull requests."""

from __future__ import annotations

from typing import Final

from starlette.routing import Route

from perdure.hub import git_http, lfs, lfs_locks, limits, pulls
from perdure.hub.core import Access
from perdure.hub.endpoints import route, upload_route
from perdure.hub.turns import Turns

_PAGES: Final = tuple(prefix + "/{namespace:segment}/{name:gitname}" for prefix in ("/{kind:kind}", ""))


def discussion_routes(repo: str) -> list[Route]:
    """Pull requests and discussions below a repository's address."""
    all_ = repo + "/discussions"
    one = all_ + "/{num:segment}"
    comment = one + "/comment/{comment:segment}"
    propose = Access.PROPOSE
    return [
        route("GET", all_, pulls.list_discussions, Access.READ),
        route("POST", all_, pulls.create, propose),
        route("GET", one, pulls.details, Access.DOWNLOAD),
        route("POST", one + "/comment", pulls.comment, propose),
        route("POST", comment + "/edit", pulls.edit_comment, propose),
        route("POST", comment + "/hide", pulls.hide_comment, propose),
        route("POST", one + "/title", pulls.rename, propose),
        route("POST", one + "/status", pulls.change_status, propose),
        route("POST", one + "/merge", pulls.merge, Access.WRITE),
    ]


def git_routes() -> list[Route]:
    """Smart HTTP and git-lfs, at the addresses that git makes of a repository's own, with or without `.git`."""
    blob = "/lfs/objects/{oid:segment}"
    routes = [
        upload_route("PUT", blob, lfs.upload, Access.LINK, limit=limits.BLOB, digest=True, before=lfs.check_link),
        route("GET", blob, lfs.download, Access.LINK, before=lfs.check_download),
    ]
    turns = Turns(limits.GIT_AT_ONCE, each=limits.GIT_EACH, patience=limits.GIT_PATIENCE_SECONDS)
    for page in _PAGES:
        fetch, push = page + "/git-upload-pack", page + "/git-receive-pack"
        routes += [
            route("GET", page + "/info/refs", git_http.info_refs, Access.DOWNLOAD, turns=turns),
            upload_route(
                "POST", fetch, git_http.upload_pack, Access.DOWNLOAD, limit=limits.GIT_NEGOTIATION, turns=turns
            ),
            upload_route(
                "POST", push, git_http.receive_pack, Access.PROPOSE,
                limit=limits.GIT_PACK, before=git_http.check_push, turns=turns,
            ),
            *_lfs_routes(page + "/info/lfs"),
        ]  # fmt: skip
    return routes


def _lfs_routes(base: str) -> list[Route]:
    return [
        route("POST", base + "/objects/batch", lfs.batch, Access.DOWNLOAD),
        route("POST", base + "/objects/verify", lfs.verify, Access.PROPOSE),
        route("GET", base + "/locks", lfs_locks.list_locks, Access.DOWNLOAD),
        route("POST", base + "/locks", lfs_locks.create_lock, Access.WRITE),
        route("POST", base + "/locks/verify", lfs_locks.verify_locks, Access.WRITE),
        route("POST", base + "/locks/{lock:segment}/unlock", lfs_locks.delete_lock, Access.WRITE),
    ]
