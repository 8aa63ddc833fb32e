"""One Hub, as whoever reads from it and whoever writes to it sees it, by its client `huggingface_hub`."""

from __future__ import annotations

from itertools import islice

from perdure._optional import require
from perdure.errors import Rejected
from perdure.publishing.border import PURPOSE, Border, token_for
from perdure.publishing.remote_file import RemoteFile
from perdure.publishing.target import endpoint_in_force

_MOST_FILES = 100_000


def metadata_of(repo: str, revision: str | None, *, seconds: float) -> dict[str, object]:
    """What a model's card on the Hub says in its front matter; empty where there is none.

    With the token that there is, if any, and the Hub's address from the environment. Any error of the client or of
    the network may come out of it.
    """
    hub = require("huggingface_hub", PURPOSE)
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return {}
    card = (
        hub.HfApi(endpoint_in_force(None), library_name="perdure")
        .model_info(repo, revision=revision, timeout=seconds)
        .card_data
    )
    return dict(card.to_dict()) if card is not None else {}


class Client:
    """One Hub, spoken to as one user, or as nobody.

    Every method raises `Unauthorized`, `Rejected` or `Unavailable`.

    Args:
        endpoint: The Hub's address.
        token: A token for it; by default `HF_TOKEN`, or what `hf auth login` stored, or none.
    """

    def __init__(self, endpoint: str, token: str | None = None) -> None:
        hub = require("huggingface_hub", PURPOSE)
        self.endpoint = endpoint
        self._token = token_for(endpoint, token)
        self._border = Border(endpoint, self._token)
        self._api = hub.HfApi(endpoint=endpoint, token=self._token or False, library_name="perdure")

    def user(self) -> str:
        """The name of the token's user."""
        with self._border.crossing("say whose token it is"):
            return str(self._api.whoami()["name"])

    def tree(self, repo: str, commit: str) -> dict[str, RemoteFile]:
        """Every file at a commit, by path as the Hub gives it."""
        from huggingface_hub.hf_api import RepoFile

        with self._border.crossing(f"list the files of {repo}"):
            entries = list(islice(self._api.list_repo_tree(repo, recursive=True, revision=commit), _MOST_FILES + 1))
        if len(entries) > _MOST_FILES:
            raise Rejected(f"{repo} has more than {_MOST_FILES} files: no model has. Nothing was done.")
        return {
            entry.path: RemoteFile(
                size=entry.size, sha256=entry.lfs.sha256 if entry.lfs else None, blob_id=entry.blob_id
            )
            for entry in entries
            if isinstance(entry, RepoFile)
        }

    def _headers(self) -> dict[str, str]:
        utils = require("huggingface_hub.utils", PURPOSE)
        return dict(utils.build_hf_headers(token=self._token or False))
