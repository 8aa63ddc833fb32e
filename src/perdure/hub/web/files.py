"""Folders and files of a revision."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice
from typing import Any, Final

from dulwich.objects import Commit
from starlette.responses import RedirectResponse, Response

from perdure.errors import Corrupt
from perdure.format.header import Header, parse, read_header
from perdure.hub import card, limits, tree
from perdure.hub.core import Call
from perdure.hub.git import GitRepo
from perdure.hub.paths import check_path
from perdure.hub.resolve import media_type
from perdure.hub.tree import Entry
from perdure.hub.web import markdown, text, view
from perdure.hub.web.links import Links

_ENTRIES: Final = 1000
_TEXT: Final = limits.MIB
_LINES: Final = 5000
_TENSORS: Final = 500


def folder(call: Call) -> Response:
    """What is in a folder, with what changed each entry last."""
    revision, path = call.param("revision"), _path(call)
    number = call.count("p", 0, 10**6)
    with call.git() as git:
        commit = git.resolve(revision)
        found = tree.find(git, commit, path)
        if found is None:
            raise tree.entry_not_found(path, commit)
        if not found.folder:
            return RedirectResponse(Links.to(call.repo).blob(revision, path), status_code=307)
        walk = tree.walk(git, found, recursive=False)
        entries = list(islice(walk, number * _ENTRIES, (number + 1) * _ENTRIES + 1))
        more, entries = len(entries) > _ENTRIES, entries[:_ENTRIES]
        entries.sort(key=lambda entry: not entry.folder)
        last = tree.last_commits(git, commit, entries)
        return view.render(
            call,
            git,
            "tree.html",
            tab="files",
            revision=revision,
            path=path,
            crumbs=view.crumbs(path),
            entries=[(entry, last[entry.path]) for entry in entries],
            commit=commit,
            number=number,
            more=more,
        )


def file(call: Call) -> Response:
    """One file: its text, picture or tensors, or what is known of it."""
    revision, path = call.param("revision"), _path(call)
    with call.git() as git:
        commit = git.resolve(revision)
        entry = tree.find(git, commit, path)
        if entry is None or entry.folder:
            raise tree.entry_not_found(path, commit)
        return _file(call, git, commit, entry)


def _path(call: Call) -> str:
    path = str(call.request.path_params.get("path", "")).strip("/")
    return check_path(path) if path else ""


def _file(call: Call, git: GitRepo, commit: Commit, entry: Entry) -> Response:
    last = tree.last_commits(git, commit, [entry])[entry.path]
    return view.render(
        call,
        git,
        "file.html",
        tab="files",
        revision=call.param("revision"),
        path=entry.path,
        crumbs=view.crumbs(entry.path),
        entry=entry,
        commit=commit,
        last=last,
        **_shown(call, git, entry),
    )


def _shown(call: Call, git: GitRepo, entry: Entry) -> dict[str, Any]:
    """How a file is shown, and with what."""
    if entry.path.endswith(".safetensors"):
        header = _header(call, git, entry)
        if header is not None:
            return {"shown": "tensors", **_tensors(call, header)}
    if media_type(entry.path) is not None:
        return {"shown": "picture"}
    content = text.decode(git.blob(entry.oid)) if entry.lfs is None and entry.size <= _TEXT else None
    if content is None:
        return {"shown": "nothing", "longest": _TEXT}
    renders = entry.path.lower().endswith((".md", ".markdown")) and markdown.renders(card.body(content))
    if renders and not call.flag("plain"):
        links, parent = Links.to(call.repo), entry.path.rpartition("/")[0]
        rendered = markdown.render(card.body(content), links=links, revision=call.param("revision"), folder=parent)
        return {"shown": "document", "document": rendered}
    lines = content.removesuffix("\n").split("\n")
    return {"shown": "text", "lines": lines[:_LINES], "total": len(lines), "renders": renders}


def _header(call: Call, git: GitRepo, entry: Entry) -> Header | None:
    """A safetensors file's header; None when it is too long or damaged."""
    try:
        if entry.lfs is None:
            data = git.blob(entry.oid)
            return parse(data[8 : 8 + int.from_bytes(data[:8], "little")])
        path = call.hub.blobs.path(entry.lfs.oid)
        with path.open("rb") as stored:
            if int.from_bytes(stored.read(8), "little") > limits.SAFETENSORS_HEADER:
                return None
        return read_header(path)
    except (OSError, ValueError, Corrupt):
        return None


def _tensors(call: Call, header: Header) -> dict[str, Any]:
    number, search = call.count("p", 0, 10**6), call.query("search").strip()
    matching = [(name, info) for name, info in header.tensors.items() if search.lower() in name.lower()]
    counts: Counter[str] = Counter()
    for info in header.tensors.values():
        counts[info.dtype] += math.prod(info.shape)
    rows = matching[number * _TENSORS : (number + 1) * _TENSORS]
    return {
        "tensors": [(name, info, math.prod(info.shape)) for name, info in rows],
        "matching": len(matching),
        "count": len(header.tensors),
        "dtypes": counts.most_common(),
        "metadata": list(header.metadata.items())[:50],
        "search": search,
        "number": number,
        "more": len(matching) > (number + 1) * _TENSORS,
    }
