"""What publishing asks of a Hub, by its client `huggingface_hub`: of repositories, revisions, commits and tags."""

from __future__ import annotations

import base64
import math
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from perdure._optional import require
from perdure.errors import Conflict, Rejected, Unauthorized
from perdure.format.manifest import MAX_SIZE, Manifest, decode
from perdure.format.names import MANIFEST
from perdure.publishing.border import PURPOSE, how_to_authenticate
from perdure.publishing.bounds import Bounds
from perdure.publishing.client import Client
from perdure.publishing.remote_file import RemoteFile
from perdure.publishing.subfolder import joined

_XET_ATTEMPTS = "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS"
_MOST_COMMITS = 1000
_WHOLE_FILE = Bounds(answer=90, total=120)
_UPLOAD = Bounds(answer=90, total=math.inf)  # a Hub works up to a minute on a large commit


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
class RemoteCommit:
    """A commit of a branch, and its message below the first line."""

    commit: str
    message: str


class Remote(Client):
    """One Hub, spoken to as one user. Reading is safe from several threads.

    Every method raises `Unauthorized`, `Rejected`, `Conflict` or `Unavailable`.

    Args:
        endpoint: The Hub's address.
        token: A token for it; by default `HF_TOKEN`, or what `hf auth login` stored.
    """

    def __init__(self, endpoint: str, token: str | None = None) -> None:
        super().__init__(endpoint, token)
        if not self._token:
            raise Unauthorized(
                f"There is no token for {endpoint}. Nothing was sent.", hint=how_to_authenticate(endpoint)
            )

    def full_name(self, repo: str) -> str:
        """A repository's name with its namespace: the token's own user's where it has none."""
        return repo if "/" in repo else f"{self.user()}/{repo}"

    def look(self, repo: str) -> RemoteRepo | None:
        """The repository as it stands; None if there is none that the token may see."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._border.crossing(f"read {repo}"):
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

    def read(self, repo: str, path: str, commit: str) -> bytes:
        """The content of a file; look at its size first, for it comes in one piece."""
        from huggingface_hub import get_session, hf_hub_url

        utils = require("huggingface_hub.utils", PURPOSE)
        with self._border.crossing(f"read {path} of {repo}", bounds=_WHOLE_FILE):
            url = hf_hub_url(repo, path, revision=commit, endpoint=self.endpoint)
            response = get_session().get(url, headers=self._headers())
            utils.hf_raise_for_status(response)
            return bytes(response.content)

    def manifest(self, repo: str, commit: str, tree: Mapping[str, RemoteFile], folder: str = "") -> Manifest | None:
        """The manifest of a folder at a commit, which holds `tree`; None for none, or one that is none by its size.

        Raises:
            Corrupt, UnsupportedFormat: It cannot be read.
        """
        if MANIFEST not in tree or tree[MANIFEST].size > MAX_SIZE:
            return None
        return decode(self.read(repo, joined(folder, MANIFEST), commit))

    def commits(self, repo: str, branch: str) -> Iterator[RemoteCommit]:
        """The newest commits of a branch, newest first, and not more than anybody makes during one push."""
        utils = require("huggingface_hub.utils", PURPOSE)
        url = self._commits_url(repo, branch)
        with self._border.crossing(f"list the commits of {repo}"):
            pages = utils.paginate(url, params={}, headers=self._headers())
            for entry in islice(pages, _MOST_COMMITS):
                yield RemoteCommit(commit=str(entry["id"]), message=str(entry["message"]))

    def first_commit(self, repo: str) -> str | None:
        """The commit with which the history of `main` begins; None where there is none."""
        with self._border.crossing(f"list the commits of {repo}"):
            commits = self._api.list_repo_commits(repo)
        return str(commits[-1].commit_id) if commits else None

    def resolve(self, repo: str, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit's id stands for; None if there is none."""
        from huggingface_hub.errors import RevisionNotFoundError

        with self._border.crossing(f"look for {revision} in {repo}"):
            try:
                return str(self._api.model_info(repo, revision=revision).sha)
            except RevisionNotFoundError:
                return None

    def committed_at(self, repo: str, commit: str) -> float:
        """When a commit was made, in seconds since 1970."""
        utils = require("huggingface_hub.utils", PURPOSE)
        url = self._commits_url(repo, commit)
        with self._border.crossing(f"list the commits of {repo}"):
            pages = utils.paginate(url, params={"limit": 1}, headers=self._headers())
            return datetime.fromisoformat(str(next(iter(pages))["date"]).replace("Z", "+00:00")).timestamp()

    def sizes(self, repo: str, paths: Collection[str], commit: str) -> dict[str, int]:
        """Bytes of those of `paths` that are files at a commit."""
        from huggingface_hub.hf_api import RepoFile

        with self._border.crossing(f"list the files of {repo}"):
            found = self._api.get_paths_info(repo, list(paths), revision=commit)
        return {file.path: file.size for file in found if isinstance(file, RepoFile)}

    def create_repo(self, repo: str, *, private: bool) -> None:
        """Create a repository; `Conflict` if there is one of that name."""
        with self._border.crossing(f"create the repository {repo}"):
            self._api.create_repo(repo, private=private, exist_ok=False)

    def make_public(self, repo: str) -> None:
        """Let everybody read a repository."""
        with self._border.crossing(f"make {repo} public"):
            self._api.update_repo_settings(repo, private=False)

    def create_branch(self, repo: str, branch: str, *, start: str) -> None:
        """Create a branch at a commit; `Conflict` if there is one of that name."""
        with self._border.crossing(f"create the branch {branch} in {repo}"):
            self._api.create_branch(repo, branch=branch, revision=start, exist_ok=False)

    def delete_branch(self, repo: str, branch: str) -> None:
        """Delete a branch."""
        with self._border.crossing(f"delete the branch {branch} of {repo}"):
            self._api.delete_branch(repo, branch=branch)

    def move_branch(self, repo: str, branch: str, *, request: bytes, old: str) -> None:
        """Move a branch by a push in git's protocol; `Conflict` if it is no longer at `old`."""
        from huggingface_hub import get_session

        utils = require("huggingface_hub.utils", PURPOSE)
        credentials = base64.b64encode(f"{self.user()}:{self._token}".encode()).decode()
        headers = {"Content-Type": "application/x-git-receive-pack-request", "Authorization": f"Basic {credentials}"}
        with self._border.crossing(f"move the branch {branch} of {repo}", bounds=_UPLOAD):
            url = f"{self.endpoint}/{repo}.git/git-receive-pack"
            response = get_session().post(url, content=request, headers=headers)
            utils.hf_raise_for_status(response)
        if f"ok refs/heads/{branch}\n".encode() in response.content:
            return
        found = self.look(repo)
        if found is None or found.branches.get(branch) != old:
            raise Conflict(f"Could not move the branch {branch} of {repo}: somebody else was first.")
        said = self._border.said(response.content.decode("utf-8", "replace"))
        raise Rejected(f"{self.endpoint} would not move the branch {branch} of {repo}: {said}")

    def create_tag(self, repo: str, tag: str, *, commit: str, message: str | None = None) -> None:
        """Tag a commit, with a message if one is given; `Conflict` if there is a tag of that name."""
        with self._border.crossing(f"create the tag {tag} in {repo}"):
            self._api.create_tag(repo, tag=tag, tag_message=message, revision=commit, exist_ok=False)

    def delete_tag(self, repo: str, tag: str) -> None:
        """Delete a tag; that there is none is fine."""
        from huggingface_hub.errors import RevisionNotFoundError

        with self._border.crossing(f"delete the tag {tag} of {repo}"), suppress(RevisionNotFoundError):
            self._api.delete_tag(repo, tag=tag)

    def commit(
        self,
        repo: str,
        branch: str,
        *,
        add: Mapping[str, Path | bytes],
        delete: Collection[str],
        message: str,
        parent: str | None,
        copy: Collection[str] = (),
        copy_from: str | None = None,
    ) -> str:
        """Send the files of `add`, on disk or in memory, and make one commit of everything, on top of `parent` or not.

        The files of `copy` become what they are at the commit `copy_from`; of large ones no bytes are sent.
        Returns the new commit. `Conflict` when the branch is no longer at `parent`.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

        summary, _, description = message.partition("\n")
        with self._border.crossing(f"commit to {repo}", bounds=_UPLOAD), _progress_only_on_terminals(), _xet_bounded():
            operations = [
                *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in delete),
                *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in add.items()),
                *(CommitOperationCopy(path, path, src_revision=copy_from) for path in copy),
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

    def _commits_url(self, repo: str, revision: str) -> str:
        return f"{self.endpoint}/api/models/{repo}/commits/{quote(revision, safe='')}"


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
    utils = require("huggingface_hub.utils", PURPOSE)
    if sys.stderr.isatty() or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
