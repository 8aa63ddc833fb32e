"""The addresses of git, git-lfs and pull requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.routing import Route

from perdure.hub import git_http, lfs, lfs_locks, limits, pulls
from perdure.hub.core import Access, Call
from perdure.hub.endpoints import Handler, endpoint, upload_endpoint

_PAGES: Final = tuple(prefix + "/{namespace:segment}/{name:segment}" for prefix in ("/{kind:kind}", ""))


def discussion_routes(repo: str) -> list[Route]:
    """Pull requests and discussions below a repository's address."""
    all_ = repo + "/discussions"
    one = all_ + "/{num:segment}"
    comment = one + "/comment/{comment:segment}"
    propose = Access.PROPOSE
    return [
        _route("GET", all_, pulls.list_discussions, Access.READ),
        _route("POST", all_, pulls.create, propose),
        _route("GET", one, pulls.details, Access.DOWNLOAD),
        _route("POST", one + "/comment", pulls.comment, propose),
        _route("POST", comment + "/edit", pulls.edit_comment, propose),
        _route("POST", comment + "/hide", pulls.hide_comment, propose),
        _route("POST", one + "/title", pulls.rename, propose),
        _route("POST", one + "/status", pulls.change_status, propose),
        _route("POST", one + "/merge", pulls.merge, Access.WRITE),
    ]


def git_routes() -> list[Route]:
    """Smart HTTP and git-lfs, at the addresses that git makes of a repository's own, with or without `.git`."""
    routes = [
        Route(
            "/lfs/objects/{oid:segment}",
            upload_endpoint(lfs.upload, access=Access.SIGNED, limit=limits.BLOB, digest=True, before=lfs.check_link),
            methods=["PUT"],
        ),
        _route("GET", "/lfs/objects/{oid:segment}", lfs.download, Access.SIGNED, before=lfs.check_download),
    ]
    for page in _PAGES:
        routes += [
            _route("GET", page + "/info/refs", git_http.info_refs, Access.SIGNED),
            Route(
                page + "/git-upload-pack",
                upload_endpoint(
                    git_http.upload_pack,
                    access=Access.SIGNED,
                    limit=limits.GIT_NEGOTIATION,
                    before=git_http.admit_fetch,
                ),
                methods=["POST"],
            ),
            Route(
                page + "/git-receive-pack",
                upload_endpoint(
                    git_http.receive_pack, access=Access.SIGNED, limit=limits.GIT_PACK, before=git_http.admit_push
                ),
                methods=["POST"],
            ),
            *_lfs_routes(page + "/info/lfs"),
        ]
    return routes


def _lfs_routes(base: str) -> list[Route]:
    read, write = git_http.admit_fetch, git_http.admit_lfs_write
    return [
        _route("POST", base + "/objects/batch", lfs.batch, Access.SIGNED, before=read),
        _route("POST", base + "/objects/verify", lfs.verify, Access.SIGNED, before=git_http.admit_lfs_upload),
        _route("GET", base + "/locks", lfs_locks.list_locks, Access.SIGNED, before=read),
        _route("POST", base + "/locks", lfs_locks.create_lock, Access.SIGNED, before=write),
        _route("POST", base + "/locks/verify", lfs_locks.verify_locks, Access.SIGNED, before=write),
        _route("POST", base + "/locks/{lock:segment}/unlock", lfs_locks.delete_lock, Access.SIGNED, before=write),
    ]


def _route(
    method: str, path: str, handler: Handler, access: Access, before: Callable[[Call], None] | None = None
) -> Route:
    return Route(path, endpoint(handler, access=access, before=before), methods=[method])
