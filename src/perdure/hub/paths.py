"""Names that come from outside: repository ids, paths in a repository, branches and tags.

Everything here either returns a name that is safe to use or raises a 400; nothing is repaired silently.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from dulwich.refs import check_ref_format

from perdure.format.hub_id import why_no_repo
from perdure.hub import limits
from perdure.hub.http import ApiError, bad_request

_SHA: Final = re.compile(r"[0-9a-f]{40}")
_OID: Final = re.compile(r"[0-9a-f]{64}")

# First segments of the hub's own addresses: a namespace of that name could never be reached.
_RESERVED: Final = re.compile(
    r"api|models|datasets|spaces|lfs|settings|docs|join|login|new|openapi\.json|cas-.*", re.IGNORECASE
)

# Characters that some file systems drop from names, so that ".g\u200cit" arrives as ".git" (git's own list).
_IGNORABLE: Final = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


def check_name(name: str, what: str = "repository name") -> str:
    """A namespace or the second half of a repository id.

    Raises:
        ApiError: 400, when it is not one.
    """
    why = "it has a slash" if "/" in name else why_no_repo(name.lower())  # ".GIT" is refused, too
    if why is not None:
        raise bad_request(f"Not a valid {what}: {why}.")
    return name


def check_namespace(name: str) -> str:
    """As `check_name`, and not the first segment of one of the hub's own addresses."""
    check_name(name, "namespace")
    if _RESERVED.fullmatch(name):
        raise bad_request(f"The namespace {name!r} is reserved.")
    return name


def check_path(path: str) -> str:
    """The path of a file or folder in a repository: relative, `/` between segments.

    Raises:
        ApiError: 400, for anything that could leave the repository, reach git's own files, or be two
            different names on two systems.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise bad_request("A path is not valid UTF-8.") from error
    if not path or len(encoded) > limits.PATH:
        raise bad_request(f"A path must be 1 to {limits.PATH} bytes long.")
    if "\\" in path or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise bad_request("A path must not contain backslashes or control characters.")
    segments = path.split("/")
    if len(segments) > limits.PATH_DEPTH:
        raise bad_request(f"A path may be at most {limits.PATH_DEPTH} folders deep.")
    for segment in segments:
        if not segment or segment in {".", ".."}:
            raise bad_request("A path must be relative, without empty segments, '.' and '..'.")
        if len(segment.encode()) > limits.PATH_SEGMENT:
            raise bad_request(f"A file name may be at most {limits.PATH_SEGMENT} bytes long.")
        # "aux:stream" is a file of its own on Linux and a hidden part of "aux" on NTFS
        plain = _IGNORABLE.sub("", segment).casefold().partition(":")[0].rstrip(" .")
        if plain in {".git", "git~1"}:
            raise bad_request("A path must not contain '.git'.")
    return path


def check_ref(name: str) -> str:
    """A branch or tag name, without `refs/heads/` or `refs/tags/`.

    Raises:
        ApiError: 400, when git would not take it.
    """
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise bad_request("A branch or tag name is not valid UTF-8.") from error
    valid = (
        0 < len(encoded) <= limits.REF_NAME
        and max(map(len, encoded.split(b"/"))) <= limits.REF_SEGMENT
        and name != "HEAD"
        and not name.startswith(("-", "refs/"))
        and not _SHA.fullmatch(name)  # would hide the commit of that id
        and check_ref_format(b"refs/heads/" + encoded)  # type: ignore[arg-type]
    )
    if not valid:
        raise bad_request("Not a valid branch or tag name.")
    return name


def is_sha(text: str) -> bool:
    """Whether `text` is a full git commit id."""
    return _SHA.fullmatch(text) is not None


def check_oid(oid: str) -> str:
    """A sha256 in lower-case hex.

    Raises:
        ApiError: 422, as git-lfs expects it.
    """
    if not _OID.fullmatch(oid):
        raise ApiError(422, "An object id must be a sha256 in lower-case hex.")
    return oid


def renamed(path: str, old: tuple[str, str], new: tuple[str, str]) -> str | None:
    """A raw path with a repository's new name for its old one, however that is encoded; None where it has none."""
    segments = path.split("/")
    for i in range(len(segments) - 1):
        name = segments[i + 1].removesuffix(".git")  # no repository's name ends so, but git-lfs's addresses do
        if (unquote(segments[i]), unquote(name)) == old:
            end = segments[i + 1][len(name) :]
            return "/".join([*segments[:i], new[0], new[1] + end, *segments[i + 2 :]])
    return None
