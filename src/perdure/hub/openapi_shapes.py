"""What the hub's addresses take and give, as JSON Schema, by the names of their handlers."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_TEXTS: Final[Schema] = {"type": "array", "items": _TEXT}
_OID: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_COMMIT: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{40}$"}
_BYTES: Final[Schema] = {"type": "string", "format": "binary"}
_MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}


def _object(*required: str, **members: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": members}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _json(schema: Schema) -> dict[str, Schema]:
    return {"application/json": schema}


ERROR: Final = _object("error", error=_TEXT)

_KIND: Final[Schema] = {"type": "string", "enum": ["model", "dataset"]}
_VISIBILITY: Final = {"private": _FLAG, "visibility": {"type": "string", "enum": ["private", "public"]}}
_DONE: Final = _object("success", success={"const": True})
_REPO: Final = _object(
    "id", "author", "private", "tags",
    id=_TEXT, author=_TEXT, sha=_COMMIT, private=_FLAG, gated={"enum": [False, "auto", "manual"]}, tags=_TEXTS,
    createdAt=_TEXT, lastModified=_TEXT, cardData={"type": ["object", "null"]}, siblings=_list(_object("rfilename")),
)  # fmt: skip
_ENTRY: Final = _object(
    "type", "oid", "size", "path", type={"enum": ["file", "directory"]}, oid=_COMMIT, size=_COUNT, path=_TEXT
)
_REF: Final = _object("name", "ref", "targetCommit", name=_TEXT, ref=_TEXT, targetCommit=_COMMIT)
_OBJECT: Final = _object("oid", "size", oid=_OID, size=_COUNT)
_MESSAGES: Final = _list(_object("message", message=_TEXT))
_ORG: Final = _object("name", name=_TEXT)
_STORAGE: Final = _list(_object("id", "type", "storage", id=_TEXT, type=_KIND, storage=_COUNT))

QUERIES: Final[dict[str, dict[str, Schema]]] = {
    "info.repo_info": {"blobs": _FLAG, "expand": _TEXTS},
    "listing.list_repos": {
        "search": _TEXT, "author": _TEXT, "filter": _TEXTS, "pipeline_tag": _TEXT, "library": _TEXT, "gated": _FLAG,
        "num_parameters": {"type": "string", "examples": ["min:6B,max:128B"]}, "inference": _TEXT,
        "inference_provider": _TEXT, "apps": _TEXTS,
        "sort": {"enum": ["createdAt", "lastModified", "id", "downloads", "likes", "trendingScore"]},
        "direction": {"enum": ["1", "-1"]}, "limit": _COUNT, "cursor": _TEXT, "full": _FLAG, "cardData": _FLAG,
        "config": _FLAG, "expand": _TEXTS,
    },
    "contents.list_tree": {"recursive": _FLAG, "expand": _FLAG, "limit": _COUNT, "cursor": _TEXT},
    "refs.list_refs": {"include_prs": _FLAG},
    "refs.list_commits": {"limit": _COUNT, "p": _COUNT, "cursor": _TEXT},
    "commits.preupload": {"create_pr": _FLAG},
    "commits.create_commit": {"create_pr": _FLAG},
    "pulls.list_discussions": {
        "type": {"enum": ["all", "discussion", "pull_request"]}, "status": {"enum": ["all", "open", "closed"]},
        "author": _TEXT, "p": _COUNT,
    },
    "pulls.details": {"diff": _FLAG},
    "lfs.upload": {"signature": _TEXT},
    "lfs.download": {"signature": _TEXT},
    "lfs_locks.list_locks": {"path": _TEXT, "id": _TEXT, "cursor": _TEXT, "limit": _COUNT},
    "git_http.info_refs": {"service": {"enum": ["git-upload-pack", "git-receive-pack"]}},
    "web.sign_in.form": {"next": _TEXT},
    "web.page.static": {"v": _TEXT},
    "web.repo.card": {"revision": _TEXT},
    "web.files.folder": {"p": _COUNT, "search": _TEXT},
    "web.files.file": {"p": _COUNT, "plain": _FLAG, "search": _TEXT},
    "web.history.commits": {"p": _COUNT},
    "web.history.commit": {"p": _COUNT},
    "web.history.refs": {"p": _COUNT},
    "web.talk.discussions": {"p": _COUNT},
}  # fmt: skip
QUERIES["web.home.repositories"] = QUERIES["web.home.namespace"] = {
    "kind": {"enum": ["model", "dataset"]}, "search": _TEXT, "sort": _TEXT, "p": _COUNT
}  # fmt: skip
QUERIES["web.home.home"] = QUERIES["web.home.repositories"]

BODIES: Final[dict[str, dict[str, Schema]]] = {
    "manage.create_repo": _json(_object("name", name=_TEXT, organization=_MAYBE_TEXT, type=_KIND, **_VISIBILITY)),
    "manage.delete_repo": _json(_object("name", name=_TEXT, organization=_MAYBE_TEXT, type=_KIND)),
    "manage.move_repo": _json(_object("fromRepo", "toRepo", fromRepo=_TEXT, toRepo=_TEXT, type=_KIND)),
    "manage.settings": _json(_object(gated={"enum": [False, "auto", "manual"]}, **_VISIBILITY)),
    "manage.validate_yaml": _json(_object("content", content=_TEXT, repoType=_TEXT)),
    "refs.create_branch": _json(_object(startingPoint=_TEXT)),
    "refs.create_tag": _json(_object("tag", tag=_TEXT, message=_TEXT)),
    "refs.squash": _json(_object(message=_TEXT)),
    "contents.paths_info": {
        "application/json": _object(paths=_TEXTS, expand=_FLAG),
        "application/x-www-form-urlencoded": _object(paths=_TEXTS, expand=_FLAG),
    },
    "commits.preupload": _json(
        _object(
            "files", files=_list(_object("path", path=_TEXT, size=_COUNT, sample=_TEXT)), gitIgnore=_TEXT,
            gitAttributes=_TEXT,
        )
    ),
    "commits.create_commit": {
        # one line of JSON after another: the header, then operations
        "application/x-ndjson": _list(
            _object(
                "key", "value", key={"enum": ["header", "file", "lfsFile", "deletedFile", "deletedFolder"]},
                value=_object(
                    summary=_TEXT, description=_TEXT, parentCommit=_COMMIT, path=_TEXT, content=_TEXT,
                    encoding={"enum": ["base64", "utf-8"]}, algo={"const": "sha256"}, oid=_OID, size=_COUNT,
                ),
            )
        )
    },
    "pulls.create": _json(_object("title", title=_TEXT, description=_TEXT, pullRequest=_FLAG)),
    "pulls.comment": _json(_object("comment", comment=_TEXT)),
    "pulls.edit_comment": _json(_object("content", content=_TEXT)),
    "pulls.rename": _json(_object("title", title=_TEXT)),
    "pulls.change_status": _json(_object("status", status={"enum": ["open", "closed"]}, comment=_TEXT)),
    "pulls.merge": _json(_object(comment=_TEXT)),
    "lfs.batch": {
        media: _object(
            "operation", "objects", operation={"enum": ["upload", "download"]}, objects=_list(_OBJECT),
            transfers=_TEXTS, hash_algo=_TEXT,
        )
        for media in ("application/vnd.git-lfs+json", "application/json")
    },
    "lfs.verify": _json(_OBJECT),
    "lfs.upload": {"application/octet-stream": _BYTES},
    "lfs_locks.create_lock": _json(_object("path", path=_TEXT)),
    "lfs_locks.verify_locks": _json(_object(cursor=_TEXT, limit=_COUNT)),
    "lfs_locks.delete_lock": _json(_object(force=_FLAG)),
    "git_http.upload_pack": {"application/x-git-upload-pack-request": _BYTES},
    "git_http.receive_pack": {"application/x-git-receive-pack-request": _BYTES},
    "xet.cas.put_xorb": {"application/octet-stream": _BYTES},
    "xet.cas.put_shard": {"application/octet-stream": _BYTES},
    "web.sign_in.sign_in": {"application/x-www-form-urlencoded": _object("token", token=_TEXT, next=_TEXT)},
}  # fmt: skip

ANSWERS: Final[dict[str, Schema]] = {
    "people.whoami": _object("name", "type", "orgs", "auth", name=_TEXT, type={"const": "user"}, orgs=_list(_ORG)),
    "people.user_overview": _object("user", user=_TEXT, orgs=_list(_ORG), numModels=_COUNT, numDatasets=_COUNT),
    "people.organization_overview": _object("name", name=_TEXT, numModels=_COUNT, numDatasets=_COUNT),
    "people.members": _list(_object("user", user=_TEXT)),
    "people.own_storage": _STORAGE,
    "people.organization_storage": _STORAGE,
    "manage.create_repo": _object("url", "id", "name", url=_TEXT, id=_TEXT, name=_TEXT),
    "manage.delete_repo": _DONE,
    "manage.move_repo": _object("success", "url", success={"const": True}, url=_TEXT),
    "manage.settings": _object("private", "gated", private=_FLAG, gated={"enum": [False, "auto", "manual"]}),
    "manage.auth_check": _DONE,
    "manage.validate_yaml": _object("errors", "warnings", errors=_MESSAGES, warnings=_MESSAGES),
    "info.repo_info": {"anyOf": [_REPO, _object("id", id=_TEXT)]},
    "listing.list_repos": _list(_object("id", id=_TEXT)),
    "refs.list_refs": _object("branches", "tags", branches=_list(_REF), tags=_list(_REF), pullRequests=_list(_REF)),
    "refs.list_commits": _list(_object("id", "title", "date", id=_COMMIT, title=_TEXT, message=_TEXT, date=_TEXT)),
    "refs.create_branch": _DONE,
    "refs.delete_branch": _DONE,
    "refs.create_tag": _DONE,
    "refs.delete_tag": _DONE,
    "refs.squash": _object("success", "commitOid", success={"const": True}, commitOid=_COMMIT),
    "contents.list_tree": _list(_ENTRY),
    "contents.paths_info": _list(_ENTRY),
    "commits.preupload": _object(
        "files",
        files=_list(
            _object(
                "path", "uploadMode", "shouldIgnore", path=_TEXT, uploadMode={"enum": ["lfs", "regular"]},
                shouldIgnore=_FLAG, oid=_MAYBE_TEXT,
            )
        ),
    ),
    "commits.create_commit": _object(
        "success", "commitOid", "commitUrl", success={"const": True}, commitOid=_COMMIT, commitUrl=_TEXT
    ),
    "xet.cas.write_token": _object("casUrl", "exp", "accessToken", casUrl=_TEXT, exp=_COUNT | {"maximum": 2**53}),
}  # fmt: skip
