"""What perdure asks of a Hub about revisions that are there already; `remote.py` is for what it sends."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from perdure.publishing.remote import Remote


class RemoteRefs(Remote):
    """`Remote`, and what choosing among revisions takes. Reading is safe from several threads."""

    def resolve(self, repo: str, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit's id stands for; None if there is none."""
        from huggingface_hub.errors import RevisionNotFoundError

        with self._border.crossing(f"look for {revision} in {repo}"):
            try:
                return str(self._api.model_info(repo, revision=revision).sha)
            except RevisionNotFoundError:
                return None

    def sizes(self, repo: str, paths: Collection[str], commit: str) -> dict[str, int]:
        """Bytes of those of `paths` that are files at a commit."""
        from huggingface_hub.hf_api import RepoFile

        with self._border.crossing(f"list the files of {repo}"):
            found = self._api.get_paths_info(repo, list(paths), revision=commit)
        return {file.path: file.size for file in found if isinstance(file, RepoFile)}

    def delete_tag(self, repo: str, tag: str) -> None:
        """Delete a tag; that there is none is fine."""
        from huggingface_hub.errors import RevisionNotFoundError

        with self._border.crossing(f"delete the tag {tag} of {repo}"), suppress(RevisionNotFoundError):
            self._api.delete_tag(repo, tag=tag)
