"""What a repository is: files, card metadata, tags, configuration and safetensors facts; and lists of repositories."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from dulwich.objects import Commit
from starlette.responses import JSONResponse, Response

from perdure.hub import auth, card, limits, tree
from perdure.hub.core import Call
from perdure.hub.db import Repo
from perdure.hub.git import MAIN, GitRepo
from perdure.hub.http import ApiError
from perdure.hub.refs import timestamp
from perdure.hub.tree import Entry
from perdure.hub.weights import parameters

_CONFIG_KEYS = ("architectures", "model_type", "quantization_config", "auto_map")


def repo_info(call: Call) -> Response:
    """Everything about one revision of a repository; with `blobs`, sizes and ids of its files, too."""
    revision = call.request.path_params.get("revision", MAIN)
    with call.git() as git:
        commit = git.resolve(revision)
        entries = tree.files(git, commit)
        facts = _facts(call, call.repo, git, commit, entries)
    blobs = call.flag("blobs")
    facts["siblings"] = [_sibling(entry, blobs=blobs) for entry in entries]
    facts["usedStorage"] = sum(entry.size for entry in entries)
    return JSONResponse(facts)


def list_repos(call: Call) -> Response:
    """Repositories the caller may read, newest first; `search`, `author`, `filter` (tags) and `limit` narrow it."""
    search, author = call.query("search").lower(), call.query("author").lower()
    wanted = {tag for value in call.request.query_params.getlist("filter") for tag in value.split(",")}
    limit, skip = max(1, call.count("limit", 1000, 1000)), call.count("skip", 0, 10**9)
    matching = (
        repo
        for repo in call.hub.db.repos(call.param("kind"))
        if search in repo.full_name.lower()
        and author in {"", repo.namespace.lower()}
        and auth.may_read(call.caller, repo)
    )
    rows = (row for row in (_list_row(call, repo) for repo in matching) if row and wanted <= set(row["tags"]))
    found = list(islice(rows, skip, skip + limit + 1))
    headers = {}
    if len(found) > limit:
        url = call.request.url.include_query_params(skip=skip + limit)
        headers["Link"] = f'<{url}>; rel="next"'
    return JSONResponse(found[:limit], headers=headers)


def _list_row(call: Call, repo: Repo) -> dict[str, Any] | None:
    try:
        with call.hub.git.open(repo.id) as git:
            commit = git.resolve(MAIN)
            entries = tree.files(git, commit)
            row = _facts(call, repo, git, commit, entries)
    except ApiError:  # deleted while we were listing
        return None
    if call.flag("full"):
        row["siblings"] = [_sibling(entry, blobs=False) for entry in entries]
    return row


def _facts(call: Call, repo: Repo, git: GitRepo, commit: Commit, entries: list[Entry]) -> dict[str, Any]:
    by_path = {entry.path: entry for entry in entries}
    metadata = _metadata(_text(git, by_path.get("README.md")))
    weights = parameters(call.hub.blobs, entries)
    config = _config(_text(git, by_path.get("config.json")))
    tags = card.tags(metadata)
    if weights:
        tags.append("safetensors")
    if isinstance(config.get("model_type"), str):
        tags.append(config["model_type"])
    return {
        "_id": repo.id,
        "id": repo.full_name,
        **({"modelId": repo.full_name} if repo.kind == "model" else {}),
        "author": repo.namespace,
        "sha": commit.id.decode(),
        "private": repo.private,
        "gated": repo.gated or False,
        "disabled": False,
        "createdAt": timestamp(repo.created),
        "lastModified": timestamp(commit.commit_time),
        "downloads": 0,
        "likes": 0,
        "tags": list(dict.fromkeys(tags)),
        "pipeline_tag": _string(metadata.get("pipeline_tag")),
        "library_name": _string(metadata.get("library_name")),
        "cardData": metadata or None,
        "config": config or None,
        "safetensors": {"parameters": weights, "total": sum(weights.values())} if weights else None,
    }


def _text(git: GitRepo, entry: Entry | None) -> str:
    if entry is None or entry.lfs:
        return ""
    return git.blob(entry.oid).decode("utf-8", "replace")


def _metadata(readme: str) -> dict[str, Any]:
    try:
        return card.read_metadata(readme)
    except card.CardError:  # shown where it is edited; a broken card must not hide the repository
        return {}


def _config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text) if 0 < len(text) <= limits.JSON_BODY else None
    except (ValueError, RecursionError):
        return {}
    return {key: config[key] for key in _CONFIG_KEYS if key in config} if isinstance(config, dict) else {}


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _sibling(entry: Entry, *, blobs: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        row |= {"size": entry.size, "blobId": entry.oid.decode()}
        if entry.lfs:
            row["lfs"] = {"sha256": entry.lfs.oid, "size": entry.lfs.size, "pointerSize": entry.lfs.pointer_size}
    return row
