"""What a pull asks of a Hub, by its client `huggingface_hub`: which commit, which files, and their bytes."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perdure._optional import require
from perdure.errors import HubError, NotFound, Rejected, Unauthorized, Unavailable
from perdure.publishing.border import PURPOSE, how_to_authenticate, is_page
from perdure.publishing.bounds import Bounds
from perdure.publishing.client import Client
from perdure.publishing.source import Source
from perdure.publishing.staged import is_staging_branch

_BLOCK = 2**20
_DOWNLOAD = Bounds(answer=30, total=math.inf, nbytes=math.inf)
_RANGE = re.compile(r"bytes (\d+)-")


class Reader(Client):
    """One Hub, read from as one user, or as nobody.

    Every method raises `NotFound`, `Unauthorized`, `Rejected` or `Unavailable`.

    Args:
        endpoint: The Hub's address.
        token: A token for it; by default `HF_TOKEN`, or what `hf auth login` stored, or none.
    """

    def resolve(self, source: Source) -> tuple[str, str]:
        """The repository's full name, in the Hub's own spelling, and the commit at which the revision is now.

        A name without a namespace is that of a repository which has none, or else of one of the token's own user.
        """
        try:
            return self._resolve(source.repo, source.revision)
        except NotFound:
            if "/" in source.repo or not self._token:
                raise
            return self._resolve(f"{self.user()}/{source.repo}", source.revision)

    def _resolve(self, repo: str, revision: str) -> tuple[str, str]:
        errors = require("huggingface_hub.errors", PURPOSE)
        with self._border.crossing(f"read {repo}"):
            try:
                info = self._api.model_info(repo, revision=revision)
            except errors.GatedRepoError as error:
                raise self._gated(repo, error) from None
            except errors.RevisionNotFoundError:
                raise NotFound(
                    f"{repo} has no branch, tag or commit {revision}. Nothing was downloaded.",
                    hint=f"There are: {', '.join(self.revisions(repo)) or 'none'}",
                ) from None
            except errors.HfHubHTTPError as error:
                hidden = isinstance(error, errors.RepositoryNotFoundError) and error.response.status_code == 401
                if not hidden and (error.response.status_code != 404 or is_page(error.response)):
                    raise
                who = "this token may see" if self._token else "everybody may see"
                raise NotFound(
                    f"There is no {repo} at {self.endpoint} that {who}. Nothing was downloaded.",
                    hint=f"Mind its spelling. If it is private: {how_to_authenticate(self.endpoint)}",
                ) from None
        if not info.sha:
            raise NotFound(f"{info.id} is empty: nothing was ever committed. Nothing was downloaded.")
        return str(info.id), str(info.sha)

    def revisions(self, repo: str) -> list[str]:
        """The branches and tags of a repository."""
        with self._border.crossing(f"list the revisions of {repo}"):
            refs = self._api.list_repo_refs(repo)
        return [ref.name for ref in (*refs.branches, *refs.tags) if not is_staging_branch(ref.name)]

    def _gated(self, repo: str, error: Any) -> HubError:
        login = "" if self._token else f" {how_to_authenticate(self.endpoint)}"
        said = self._border.said(getattr(error, "server_message", None) or "its owner grants access one by one")
        return Unauthorized(
            f"{repo} is gated: {said}. Nothing was downloaded.",
            hint=f"Ask for access on its page: {self.endpoint}/{repo}{login}",
        )

    def stream(self, repo: str, path: str, commit: str, *, start: int, stop: int) -> Iterator[bytes]:
        """Bytes `start` to `stop` of a file, in blocks; never more than these.

        Raises:
            Unavailable: Also when the answer breaks off: what came until then is good.
        """
        from huggingface_hub import get_session, hf_hub_url

        utils = require("huggingface_hub.utils", PURPOSE)
        url = hf_hub_url(repo, path, revision=commit, endpoint=self.endpoint)
        headers = {
            **self._headers(),
            "Range": f"bytes={start}-{stop - 1}",
            "Accept-Encoding": "identity",
        }
        position = start
        with (
            self._border.crossing(f"read {path} of {repo}", bounds=_DOWNLOAD),
            get_session().stream("GET", url, headers=headers) as response,
        ):
            if response.status_code >= 400:
                response.read()
                utils.hf_raise_for_status(response)
            said = _RANGE.match(response.headers.get("content-range", ""))
            if response.status_code == 206 and (said is None or int(said[1]) != start):
                raise Rejected(f"{self.endpoint} sent another part of {path} of {repo} than it was asked for.")
            skip = 0 if said else start  # a server that knows no ranges begins at the beginning
            for block in response.iter_bytes(_BLOCK):
                piece = block[skip:][: stop - position]
                skip = max(0, skip - len(block))
                position += len(piece)
                if piece:
                    yield piece
                if position == stop:
                    return
        if position < stop:
            raise Unavailable(f"{self.endpoint} broke off while it sent {path} of {repo}.")


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar with bytes and rate, on a terminal only; called with the number of bytes that came since the last call."""
    utils = require("huggingface_hub.utils", PURPOSE)
    hidden = not sys.stderr.isatty()
    with utils.tqdm(total=total, desc=label, unit="B", unit_scale=True, disable=hidden or None) as bar:
        yield bar.update
