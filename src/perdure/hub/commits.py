"""A push: how each file should travel (preupload), and the commit that makes the new files visible at once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dulwich.objects import Blob, Commit, ObjectID, ShaFile
from starlette.responses import JSONResponse, Response

from perdure.hub import auth, limits, pulls, tree
from perdure.hub.attributes import Attributes, Ignore
from perdure.hub.core import Call, forbidden
from perdure.hub.git import GitRepo, Writable, revision_not_found, written
from perdure.hub.http import ApiError, bad_request, branch_moved, field, message_field, too_large
from perdure.hub.paths import check_oid, check_path, check_ref


def preupload(call: Call) -> Response:
    """Say for each file whether to upload it first (`lfs`) or send it in the commit (`regular`)."""
    body = call.json()
    wanted = field(body, "files", list)
    if len(wanted) > limits.PREUPLOAD_FILES:
        raise bad_request(f"One request may ask about {limits.PREUPLOAD_FILES} files at most.")
    ignore = Ignore(field(body, "gitIgnore", str, "")[: limits.GIT_ATTRIBUTES])
    with call.git() as git:
        commit = git.resolve(call.param("revision"))
        given = field(body, "gitAttributes", str, "")[: limits.GIT_ATTRIBUTES]
        attributes = Attributes(given or _attributes(git, commit))
        files = []
        for item in wanted:
            if not isinstance(item, dict):
                raise bad_request("'files' must be a list of objects.")
            path, size = check_path(field(item, "path", str)), field(item, "size", int, 0)
            large = size > 0 and (attributes.is_large(path) or size > limits.INLINE_FILE)
            current = tree.find(git, commit, path)
            files.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": ignore.ignores(path),
                    "oid": current.etag if current and not current.folder else None,
                }
            )
    return JSONResponse({"files": files})


def _attributes(git: GitRepo, commit: Commit) -> str:
    entry = tree.find(git, commit, ".gitattributes")
    if entry is None or entry.folder or entry.lfs or entry.size > limits.GIT_ATTRIBUTES:
        return ""
    return git.blob(entry.oid).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A commit's first line: its message, and the commit (or the start of its id) it must come right after."""

    message: str
    parent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A file to add: the blob (the file itself, or the pointer of a large one)."""

    path: str
    blob: Writable


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """A file to remove, or a folder with all that is in it."""

    path: str
    folder: bool


def create_commit(call: Call) -> Response:
    """All of a commit's operations become visible at once, or none does.

    The body waits in a staged file and is read twice, for ids and for content, so that a commit of any size
    costs the memory of its largest line.
    """
    _target(call)
    header, operations = _parse(call)
    proposing = call.flag("create_pr")
    with call.git() as git, git.writing():
        ref = _target(call)  # again: while the body was read, the pull request may have been closed or merged
        if git.ref(ref) is None:
            raise revision_not_found(call.param("revision"))
        head = git.resolve(ref)
        if header.parent and not head.id.startswith(header.parent.encode()):
            if not proposing:
                raise branch_moved()
            head = git.resolve(header.parent)  # what is proposed may start from any commit
        editor = tree.TreeEditor(git, head.tree)
        blobs: dict[ObjectID, Writable] = {}
        for operation in operations:
            if isinstance(operation, Put):
                editor.put(operation.path, operation.blob[0])
                blobs[operation.blob[0]] = operation.blob
            elif not editor.remove(operation.path, folder=operation.folder):
                raise ApiError(404, f"A file with this name doesn't exist: {operation.path}", code="EntryNotFound")
        root, trees = editor.finish()
        new = head.id
        if root != head.tree:
            new = git.commit([*blobs.values(), *trees], root, [head.id], call.user.name, header.message)
            if not proposing and not git.move_ref(ref, head.id, new):
                raise branch_moved()
        answer = {"success": True, "commitOid": new.decode(), "hookOutput": ""}
        answer["commitUrl"] = f"{call.repo_url()}/commit/{new.decode()}"
        if proposing:
            title, _, description = header.message.partition("\n\n")
            base = ref.removeprefix("refs/heads/")
            pull = pulls.open_pull(call, git, title, description, status="open", base=base, head=new)
            answer["pullRequestUrl"] = pulls.discussion_url(call, pull)
    return JSONResponse(answer)


def _target(call: Call) -> str:
    """The ref a commit is for, which the caller may write to; with `create_pr` the one it is proposed for."""
    revision = call.param("revision")
    if revision.startswith("refs/pr/") and not call.flag("create_pr"):
        return pulls.own_pull(call, revision).ref
    branch = check_ref(revision.removeprefix("refs/heads/"))
    if not call.flag("create_pr") and not auth.may_write(call.caller, call.repo):
        raise forbidden(call.user, call.repo.full_name)
    return f"refs/heads/{branch}"


def _parse(call: Call) -> tuple[Header, list[Put | Delete]]:
    header: Header | None = None
    operations: list[Put | Delete] = []
    path = call.received.path
    with path.open("rb") as file:
        for offset, line in _lines(file):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise bad_request("A line of the commit is not valid JSON.") from error
            if not isinstance(entry, dict):
                raise bad_request("A line of the commit is not a JSON object.")
            key, value = field(entry, "key", str), field(entry, "value", dict)
            if key == "header":
                header = _header(value)
            else:
                operations.append(_operation(call, key, value, path, offset))
            if len(operations) > limits.COMMIT_OPERATIONS:
                raise bad_request(f"A commit may have at most {limits.COMMIT_OPERATIONS} operations.")
    if header is None:
        raise bad_request("The commit has no header line.")
    return header, operations


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    while True:
        offset = file.tell()
        line = file.readline(limits.COMMIT_LINE + 1)
        if not line:
            return
        if len(line) > limits.COMMIT_LINE:
            raise too_large("A line of the commit", limits.COMMIT_LINE)
        if line.strip():
            yield offset, line


def _header(value: dict[str, Any]) -> Header:
    summary = message_field(value, "summary") or "Update files"
    description = message_field(value, "description")
    parent = field(value, "parentCommit", str, None)
    if parent is not None and not (7 <= len(parent) <= 40 and all(c in "0123456789abcdef" for c in parent)):
        raise bad_request("'parentCommit' must be a commit id, or at least 7 of its first characters.")
    return Header(message=f"{summary}\n\n{description}" if description else summary, parent=parent)


def _operation(call: Call, key: str, value: dict[str, Any], source: Path, offset: int) -> Put | Delete:
    path = field(value, "path", str)
    if key == "file":
        check_path(path)
        blob = _inline(value)
        lfs = tree.parse_pointer(blob.data)
        if lfs is not None:
            _require_held(call, path, lfs.oid, lfs.size)

        def load() -> ShaFile:
            with source.open("rb") as file:
                file.seek(offset)
                return _inline(json.loads(file.readline())["value"])

        return Put(path=path, blob=(blob.id, load))
    if key == "lfsFile":
        check_path(path)
        oid = check_oid(field(value, "oid", str))
        size = _require_held(call, path, oid, field(value, "size", int, None))
        blob = Blob.from_string(tree.pointer(oid, size))
        return Put(path=path, blob=written(blob))
    if key == "deletedFile":
        return Delete(path=check_path(path), folder=False)
    if key == "deletedFolder":
        return Delete(path=check_path(path.rstrip("/")), folder=True)
    raise bad_request(f"Unknown operation {key[:40]!r}.")


def _inline(value: dict[str, Any]) -> Blob:
    content = field(value, "content", str)
    encoding = field(value, "encoding", str, "utf-8")
    try:
        data = base64.b64decode(content, validate=True) if encoding == "base64" else content.encode()
    except ValueError as error:  # also of text that is not ASCII
        raise bad_request("The content of a file is not valid base64.") from error
    if len(data) > limits.INLINE_FILE:
        raise too_large("A file sent inside a commit", limits.INLINE_FILE)
    return Blob.from_string(data)


def _require_held(call: Call, path: str, oid: str, size: int | None) -> int:
    """The stored size of a large file this commit may refer to: no commit without the bytes behind it."""
    stored = call.hub.blobs.size(oid) if call.hub.holds_for(call.user, call.repo, oid) else None
    if stored is None:
        raise bad_request(f"The content of {path!r} (sha256 {oid}) was never uploaded; nothing was committed.")
    if size is not None and size != stored:
        raise bad_request(f"The size of {path!r} is {stored} bytes, not {size}; nothing was committed.")
    return stored
