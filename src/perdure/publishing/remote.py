"""The border to the Hub: the only file that imports its client, `huggingface_hub`.

Everything the client may raise is translated here, once, into perdure's errors. Every wait is bounded: the client
alone would wait for ever for a hub that accepts a connection and then says nothing.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure._optional import require
from perdure.errors import Conflict, HubError, PerdureError, Rejected, Unauthorized, Unavailable

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_PURPOSE = "Publishing to a Hub"
_XET_ATTEMPTS = "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS"
_TOKEN = re.compile(r"[!-~]+")  # printable ASCII without spaces: what a header can carry as it is
_SHORTEST_TOKEN = 8  # anything shorter is no secret, and would be cut out of ordinary words
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRepo:
    """A repository as it stands.

    Args:
        name: Its full name, in the Hub's own spelling.
        private: Whether only its owners see it.
        branches: Branch → commit.
        tags: Tag → commit.
    """

    name: str
    private: bool
    branches: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of the remote tree: size in bytes, and its SHA-256 (large files) or git blob id (all others)."""

    size: int
    sha256: str | None
    blob_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bounds:
    """Seconds to wait for one answer, and seconds after which nothing more is asked, repetitions included."""

    answer: float = 20
    total: float = 30


_UPLOAD = _Bounds(answer=90, total=math.inf)  # a Hub works up to a minute on a large commit


class Remote:
    """One Hub, spoken to as one user.

    Every method raises `Unauthorized`, `Rejected`, `Conflict` or `Unavailable`.

    Args:
        endpoint: The Hub's address.
        token: A token for it; by default `HF_TOKEN`, or what `hf auth login` stored. White space around it, as from
            a file that ends with a line break, is no part of it.
    """

    def __init__(self, endpoint: str, token: str | None = None) -> None:
        hub = require("huggingface_hub", _PURPOSE)
        self.endpoint = endpoint
        self._token: str = (token or hub.get_token() or "").strip()
        if not self._token:
            raise Unauthorized(
                f"There is no token for {endpoint}. Nothing was sent.", hint=_how_to_authenticate(endpoint)
            )
        if not _TOKEN.fullmatch(self._token):  # the client would repeat it, whole, in its complaint about the header
            raise Unauthorized(
                f"The token for {endpoint} has a space, line break or other character that no token has. "
                "Nothing was sent.",
                hint=_how_to_authenticate(endpoint),
            )
        self._api = hub.HfApi(endpoint=endpoint, token=self._token, library_name="perdure")

    def user(self) -> str:
        """The name of the token's user."""
        with self._border("say whose token it is"):
            return str(self._api.whoami()["name"])

    def look(self, repo: str) -> RemoteRepo | None:
        """The repository as it stands; None if there is none that the token may see."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._border(f"read {repo}"):
            try:
                info = self._api.model_info(repo)
            except RepositoryNotFoundError as error:
                if error.response.status_code == 404:
                    return None
                raise
            refs = self._api.list_repo_refs(info.id)
        return RemoteRepo(
            name=info.id,
            private=bool(info.private),
            branches={ref.name: ref.target_commit for ref in refs.branches},
            tags={ref.name: ref.target_commit for ref in refs.tags},
        )

    def tree(self, repo: str, commit: str) -> dict[str, RemoteFile]:
        """Every file at a commit, by path."""
        from huggingface_hub.hf_api import RepoFile

        with self._border(f"list the files of {repo}"):
            entries = list(self._api.list_repo_tree(repo, recursive=True, revision=commit))
        return {
            entry.path: RemoteFile(
                size=entry.size, sha256=entry.lfs.sha256 if entry.lfs else None, blob_id=entry.blob_id
            )
            for entry in entries
            if isinstance(entry, RepoFile)
        }

    def read(self, repo: str, path: str, commit: str) -> bytes:
        """The content of a file; look at its size first, for it comes in one piece."""
        from huggingface_hub import get_session, hf_hub_url

        utils = require("huggingface_hub.utils", _PURPOSE)
        with self._border(f"read {path} of {repo}"):
            url = hf_hub_url(repo, path, revision=commit, endpoint=self.endpoint)
            response = get_session().get(url, headers=utils.build_hf_headers(token=self._token))
            utils.hf_raise_for_status(response)
            return bytes(response.content)

    def create_repo(self, repo: str, *, private: bool) -> None:
        """Create a repository; `Conflict` if there is one of that name."""
        with self._border(f"create the repository {repo}"):
            self._api.create_repo(repo, private=private, exist_ok=False)

    def create_branch(self, repo: str, branch: str, *, start: str) -> None:
        """Create a branch at a commit; `Conflict` if there is one of that name."""
        with self._border(f"create the branch {branch} in {repo}"):
            self._api.create_branch(repo, branch=branch, revision=start, exist_ok=False)

    def create_tag(self, repo: str, tag: str, *, commit: str) -> None:
        """Tag a commit; `Conflict` if there is a tag of that name."""
        with self._border(f"create the tag {tag} in {repo}"):
            self._api.create_tag(repo, tag=tag, revision=commit, exist_ok=False)

    def commit(
        self,
        repo: str,
        branch: str,
        *,
        add: Mapping[str, Path],
        delete: Collection[str],
        message: str,
        parent: str | None,
    ) -> str:
        """Send the files of `add` and make one commit of everything, on top of `parent` or not at all.

        Returns the new commit. `Conflict` when the branch is no longer at `parent`.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        summary, _, description = message.partition("\n")
        with self._border(f"commit to {repo}", bounds=_UPLOAD), _progress_only_on_terminals(), _xet_bounded():
            operations = [
                *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in delete),
                *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in add.items()),
            ]
            try:
                info = self._api.create_commit(
                    repo,
                    operations,
                    commit_message=summary,
                    commit_description=description.strip(),
                    revision=branch,
                    parent_commit=parent,
                )
            except ValueError as error:
                # Clients before 1.5 make the commit, and then fail to read its address if HF_ENDPOINT is another Hub.
                if "passed HF ID" not in str(error):
                    raise
                refs = self._api.list_repo_refs(repo)
                return str(next(ref.target_commit for ref in refs.branches if ref.name == branch))
        return str(info.oid)

    @contextmanager
    def _border(self, doing: str, *, bounds: _Bounds | None = None) -> Iterator[None]:
        """Bound the waits of the client's calls inside, and translate what they raise."""
        try:
            with _bounded(bounds or _Bounds()):
                yield
        except PerdureError:
            raise
        except Exception as error:  # the client raises nearly everything; what is not the Hub's goes on as it is
            translated = self._translated(error, doing)
            if self._is_token_in(error):  # then the chain, which tracebacks and logs show, must not hold it either
                words = self._without_token(str(error))
                raise translated or Rejected(f"{self.endpoint} could not {doing}: {words}") from None
            if translated is None:
                raise
            raise translated from error

    def _translated(self, error: BaseException, doing: str) -> HubError | None:
        errors = require("huggingface_hub.errors", _PURPOSE)
        words = self._without_token(str(error).strip()) or type(error).__name__
        if isinstance(error, errors.HfHubHTTPError):
            return self._from_answer(error, doing)
        if isinstance(error, errors.OfflineModeIsEnabled):
            return Unavailable(
                f"HF_HUB_OFFLINE is set, so {self.endpoint} was not asked to {doing}.",
                hint="To allow it: unset HF_HUB_OFFLINE",
            )
        if isinstance(error, RuntimeError) and error.__cause__ is not None:  # an upload thread's wrapper
            return self._translated(error.__cause__, doing)
        if isinstance(error, (errors.HTTPError, ConnectionError, TimeoutError)):
            if "CERTIFICATE_VERIFY_FAILED" in words:
                return Unavailable(
                    f"The certificate of {self.endpoint} is not trusted here, so it was not asked to {doing}.",
                    hint="If it is of an authority of your own: export SSL_CERT_FILE=ca.pem",
                )
            return Unavailable(f"{self.endpoint} is out of reach: it could not {doing} ({words}).")
        if isinstance(error, ValueError):
            return Rejected(f"{self.endpoint} could not {doing}: {words}")
        return None

    def _from_answer(self, error: HfHubHTTPError, doing: str) -> HubError:
        status = error.response.status_code
        words = self._without_token((error.server_message or str(error)).strip())
        said = f"{self.endpoint} answered {status}: {words}"
        if status == 401:
            return Unauthorized(
                f"{self.endpoint} does not accept this token: it would not {doing}. ({status}: {words})",
                hint=_how_to_authenticate(self.endpoint),
            )
        if status == 403:
            return Unauthorized(
                f"This token may not {doing}. {said}",
                hint=f"Use a token with write permission. {_how_to_authenticate(self.endpoint)}",
            )
        if status in (409, 412):
            return Conflict(f"Could not {doing}: somebody else was first. {said}")
        if status in (408, 425, 429) or status >= 500:
            return Unavailable(f"Could not {doing} now. {said}")
        return Rejected(f"Could not {doing}. {said}")

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "***") if len(self._token) >= _SHORTEST_TOKEN else text

    def _is_token_in(self, error: BaseException) -> bool:
        shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return self._without_token(shown) != shown


def _how_to_authenticate(endpoint: str) -> str:
    return f"Give a token of {endpoint} with --token or HF_TOKEN, or log in once with: hf auth login"


@contextmanager
def _bounded(bounds: _Bounds) -> Iterator[None]:
    """Let no request of the client's shared session wait for ever; a timeout that was set already is kept.

    A hook, because several of the client's calls ask for no timeout in so many words, over the session's own, and
    because the client repeats a failed request up to five times.
    """
    from huggingface_hub import get_session

    until = time.monotonic() + bounds.total
    limits = {"connect": _CONNECT_SECONDS, "read": bounds.answer, "write": bounds.answer, "pool": _CONNECT_SECONDS}

    def bound(request: Any) -> None:
        if time.monotonic() > until:
            raise TimeoutError("no answer in time")
        asked = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {**limits, **{kind: at for kind, at in asked.items() if at is not None}}

    hooks = get_session().event_hooks["request"]
    hooks.append(bound)
    try:
        yield
    finally:
        hooks.remove(bound)


@contextmanager
def _xet_bounded() -> Iterator[None]:
    """Let the client's Xet half give up on a hub that died after half a minute, as its HTTP half does.

    Left alone it repeats each request for many minutes. It reads its settings when it starts, from here only.
    """
    if _XET_ATTEMPTS in os.environ:
        yield
        return
    os.environ[_XET_ATTEMPTS] = "3"
    try:
        yield
    finally:
        os.environ.pop(_XET_ATTEMPTS, None)


@contextmanager
def _progress_only_on_terminals() -> Iterator[None]:
    utils = require("huggingface_hub.utils", _PURPOSE)
    if sys.stderr.isatty() or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
