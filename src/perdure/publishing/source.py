"""Where a pull comes from: repository and revision, as people write them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import InvalidInput
from perdure.format.hub_id import HUB, why_no_repo
from perdure.publishing.target import MAIN, check_endpoint, endpoint_in_force

SCHEME = "hf://"

_REVISION = re.compile(r"[\w][\w.+@=/-]{0,254}")
_EXAMPLE = "Write NAMESPACE/NAME or NAMESPACE/NAME@REVISION, for example: me/my-model@v1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A revision of a repository: a branch, a tag or a commit."""

    repo: str
    revision: str = MAIN
    endpoint: str = HUB

    @classmethod
    def of(cls, text: object, *, revision: str | None = None, endpoint: str | None = None) -> Source:
        """The source that `text` names, with or without its revision, and the Hub that is in force.

        >>> Source.of("hf://me/model@v1.0").revision, Source.of("me/model").revision
        ('v1.0', 'main')

        Raises:
            InvalidInput: It is no name that a repository, or a revision, can have; or names two revisions.
        """
        if not isinstance(text, str):
            raise InvalidInput(
                f"{text!r} is not the name of a repository: a name is text. Nothing was downloaded.", hint=_EXAMPLE
            )
        repo, at, written = text.removeprefix(SCHEME).partition("@")
        if reason := why_no_repo(repo):
            raise InvalidInput(
                f"{repo!r} is not the name of a repository: {reason}. Nothing was downloaded.", hint=_EXAMPLE
            )
        if at and revision is not None:
            raise InvalidInput(
                f"Two revisions are named, {written!r} and {revision!r}. Nothing was downloaded.", hint="Name one."
            )
        chosen = written if at else MAIN if revision is None else revision
        if not isinstance(chosen, str) or not _REVISION.fullmatch(chosen) or ".." in chosen:
            raise InvalidInput(f"{chosen!r} cannot be a branch, tag or commit. Nothing was downloaded.", hint=_EXAMPLE)
        check_endpoint(address := endpoint_in_force(endpoint))
        return cls(repo=repo, revision=chosen, endpoint=address)

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"

    def pull_command(self, folder: Path) -> str:
        """The shell command that does this pull again; it holds no token.

        >>> Source(repo="me/model", revision="v1.0").pull_command(Path("my models/a"))
        "perdure pull me/model@v1.0 'my models/a'"
        """
        words = ["perdure", "pull", self.repo if self.revision == MAIN else str(self), str(folder)]
        words += ["--endpoint", self.endpoint] if self.endpoint != HUB else []
        return shlex.join(words)
