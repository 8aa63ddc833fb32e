"""Where a push goes: endpoint, repository, revision, tag; all checked before anything touches the network."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from perdure.errors import InvalidInput
from perdure.format.hub_id import HUB, why_no_repo
from perdure.format.names import check_name

MAIN = "main"
STAGING = "perdure-staging-"  # what branches begin with that are gone as soon as their push is over

_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=/-]{0,254}")
_MAX_PART = 240  # bytes between slashes: git makes a file of each, and a lock beside it
_NO_FOLDER = re.compile(r"(^|/)\.git(/|$)|^\.perdure")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to publish.

    Args:
        repo: `NAMESPACE/NAME`, or `NAME` for a repository of the token's own user.
        revision: The branch to commit to.
        tag: A tag for the new commit.
        path_in_repo: A folder of the repository; "" is its root.
        endpoint: The Hub's address.

    Raises:
        InvalidInput: One of them is no valid name; the message says which and why.
    """

    repo: str
    revision: str = MAIN
    tag: str | None = None
    path_in_repo: str = ""
    endpoint: str = HUB

    def __post_init__(self) -> None:
        check_repo(self.repo)
        _check_ref(self.revision, "branch")
        if self.tag is not None:
            _check_ref(self.tag, "tag")
        check_folder(self.path_in_repo)
        check_endpoint(self.endpoint)


def endpoint_in_force(endpoint: str | None) -> str:
    """The Hub to speak with: `endpoint` if given, else `HF_ENDPOINT`, else huggingface.co."""
    return (endpoint or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def endpoint_words(endpoint: str) -> list[str]:
    """What names a Hub on a command line; nothing for huggingface.co."""
    return ["--endpoint", endpoint] if endpoint != HUB else []


def check_repo(repo: object) -> None:
    """Check a repository's name by the rules of the Hub.

    Raises:
        InvalidInput: It is not `NAME` or `NAMESPACE/NAME`.
    """
    if reason := why_no_repo(repo) if isinstance(repo, str) else "a name is text":
        raise InvalidInput(
            f"{repo!r} is not the name of a repository: {reason}. Nothing was sent.",
            hint="Name the repository alone; a revision is said apart, with --revision or revision=."
            if isinstance(repo, str) and "@" in repo
            else "Write NAMESPACE/NAME, for example: me/my-model",
        )


def check_revision(name: str) -> None:
    """Check the name of a branch or tag, or a commit's id.

    Raises:
        InvalidInput: It is none of them.
    """
    if not isinstance(name, str) or not _COMMIT.fullmatch(name):
        _check_ref(name, "revision")


def check_folder(path: object) -> None:
    """Check the path of a folder in a repository; "" is its root.

    Raises:
        InvalidInput: It is none, or one that git or perdure would act upon.
    """
    try:
        if path == "" or (isinstance(path, str) and not _NO_FOLDER.search(check_name(path).casefold())):
            return
    except ValueError:
        pass
    raise InvalidInput(
        f"{path!r} cannot be a folder of a repository. Nothing was done.", hint="Write it like last-checkpoint or a/b."
    )


def check_commit(commit: object) -> None:
    """Check a commit's id.

    Raises:
        InvalidInput: It is none, or not the whole of one.
    """
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise InvalidInput(f"{commit!r} is not the whole id of a commit, of 40 characters. Nothing was sent.")


def _check_ref(name: object, what: str) -> None:
    if not isinstance(name, str):
        reason = "a name is text"
    elif name.startswith("refs/") or _COMMIT.fullmatch(name):
        reason = f"name a {what}, not a commit or a full reference"
    elif what != "revision" and name.startswith(STAGING):
        reason = "pushes that are under way have such names"
    elif name == "HEAD" or any(len(part) > _MAX_PART for part in name.split("/")):
        reason = "git keeps this name for itself" if name == "HEAD" else "it is too long"
    elif not _REF.fullmatch(name) or re.search(r"\.\.|@\{|//|/\.|/$|\.$|\.lock(/|$)", name):
        reason = "git does not allow such a name"
    else:
        return
    raise InvalidInput(f"{name!r} cannot be the {what}: {reason}. Nothing was sent.")


def check_endpoint(endpoint: str) -> None:
    """Check a Hub's address.

    Raises:
        InvalidInput: It is none, or holds a password.
    """
    try:
        address = urlsplit(endpoint)
        sound = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        sound = False
    if not sound or address.query or address.fragment:
        raise InvalidInput(
            f"{endpoint!r} is not the address of a Hub. Nothing was sent.",
            hint=f"Write it like {HUB} or http://localhost:8000",
        )
    if address.username is not None or address.password is not None:  # it would end in messages and logs
        raise InvalidInput("The endpoint must not hold a user name or password. Nothing was sent.")
