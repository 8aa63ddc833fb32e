"""What a repository is: files, card metadata, tags, configuration and safetensors facts."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any, Final

from dulwich.objects import Commit
from starlette.responses import JSONResponse, Response

from perdure.hub import card, limits, tree
from perdure.hub.core import Call, Hub
from perdure.hub.db import Repo
from perdure.hub.git import MAIN, GitRepo
from perdure.hub.http import bad_request
from perdure.hub.refs import timestamp
from perdure.hub.tree import Entry
from perdure.hub.weights import parameters

# What clients may ask for by name, of which some is not known here and left out
_PROPERTIES: Final = {
    "author", "cardData", "createdAt", "disabled", "downloads", "downloadsAllTime", "gated", "lastModified", "likes",
    "private", "resourceGroup", "sha", "siblings", "tags", "trendingScore", "usedStorage",
}  # fmt: skip
_MODEL_PROPERTIES: Final = {
    "baseModels", "childrenModelCount", "config", "evalResults", "gguf", "inference", "inferenceProviderMapping",
    "library_name", "mask_token", "model-index", "pipeline_tag", "safetensors", "spaces", "transformersInfo",
    "widgetData",
}  # fmt: skip
_DATASET_PROPERTIES: Final = {"citation", "description", "mainSize", "paperswithcode_id"}

_CONFIG_KEYS: Final = ("architectures", "model_type", "quantization_config", "auto_map")


def repo_info(call: Call) -> Response:
    """Everything about one revision of a repository, or what `expand` names; with `blobs`, files with sizes and ids."""
    wanted = expanded(call, call.repo.kind)
    with call.git() as git:
        commit = git.resolve(call.request.path_params.get("revision", MAIN))
        facts = all_facts(call.hub, call.repo, git, commit, blobs=call.flag("blobs"))
    return JSONResponse(select(facts, wanted) if wanted else facts)


def expanded(call: Call, kind: str) -> list[str]:
    """The properties that a request names with `expand`; none when it leaves that to us.

    Raises:
        ApiError: 400, for one that repositories of this kind do not have.
    """
    params = call.request.query_params
    wanted = params.getlist("expand") + params.getlist("expand[]")
    known = _PROPERTIES | (_MODEL_PROPERTIES if kind == "model" else _DATASET_PROPERTIES)
    for name in wanted:
        if name not in known:
            raise bad_request(f"'expand' cannot be {name[:40]!r}; a {kind} has: {', '.join(sorted(known))}.")
    return wanted


def select(facts: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """A repository's names, and of its other facts those wanted that are known."""
    return {key: facts[key] for key in ("_id", "id", "modelId", *wanted) if key in facts}


def all_facts(
    hub: Hub, repo: Repo, git: GitRepo, commit: Commit, *, blobs: bool = False, most: int | None = None
) -> dict[str, Any]:
    """Everything that is known of a revision; with `blobs`, its files have sizes and ids.

    Of one with more than `most` files, `limits.SIBLINGS` unless told, there is neither their list nor their size:
    clients that find no list ask for the tree.
    """
    most = limits.SIBLINGS if most is None else most
    facts = brief_facts(hub, repo, git, commit)
    entries = list(islice(tree.files(git, commit), most + 1))
    if len(entries) <= most:
        facts["siblings"] = [_sibling(entry, blobs=blobs) for entry in entries]
        facts["usedStorage"] = sum(entry.size for entry in entries)
    return facts


def brief_facts(hub: Hub, repo: Repo, git: GitRepo, commit: Commit) -> dict[str, Any]:
    """What is known of a revision without going through all of its files."""
    root = {entry.path: entry for entry in tree.walk(git, tree.root(commit), recursive=False) if not entry.folder}
    metadata = _metadata(_text(git, root.get("README.md")))
    weights = parameters(hub.blobs, root.values())
    config = _config(_text(git, root.get("config.json")))
    tags = card.tags(metadata, repo.kind)
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
        "downloadsAllTime": 0,
        "likes": 0,
        "trendingScore": 0,
        "tags": list(dict.fromkeys(tags)),
        "cardData": metadata or None,
        **(_model_facts(metadata, config, weights) if repo.kind == "model" else _dataset_facts(metadata)),
    }


def _model_facts(metadata: dict[str, Any], config: dict[str, Any], weights: dict[str, int]) -> dict[str, Any]:
    return {
        "pipeline_tag": _string(metadata.get("pipeline_tag")),
        "library_name": _string(metadata.get("library_name")),
        "model-index": metadata.get("model-index"),
        "config": config or None,
        "safetensors": {"parameters": weights, "total": sum(weights.values())} if weights else None,
        "spaces": [],
    }


def _dataset_facts(metadata: dict[str, Any]) -> dict[str, Any]:
    return {"description": _string(metadata.get("description")), "citation": None, "paperswithcode_id": None}


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
