"""Where a pull comes from: repository and revision, as people write them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from perdure.errors import InvalidInput
from perdure.format.hub_id import HUB, why_no_repo
from perdure.publishing.target import MAIN, check_endpoint, check_folder, endpoint_in_force, endpoint_words

SCHEME = "hf://"

_REVISION = re.compile(r"[\w][\w.+@=/-]{0,254}")
_EXAMPLE = "Write NAMESPACE/NAME or NAMESPACE/NAME@REVISION, for example: me/my-model@v1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A revision of a repository, a branch, a tag or a commit; or a folder of it."""

    repo: str
    revision: str = MAIN
    path_in_repo: str = ""
    endpoint: str = HUB

    @classmethod
    def of(
        cls, text: object, *, revision: str | None = None, path_in_repo: str = "", endpoint: str | None = None
    ) -> Source:
        """The source that `text` names, with or without its revision, and the Hub that is in force.

        What follows the revision after a slash is part of its name here: only the Hub knows what is a folder.

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
        check_folder(path_in_repo)
        return cls(repo=repo, revision=chosen, path_in_repo=path_in_repo, endpoint=address)

    def taken_apart(self) -> Iterator[Source]:
        """The same where the revision's name is a shorter one, and the rest of it a folder.

        >>> [(one.revision, one.path_in_repo) for one in Source.of("me/model@main/last-checkpoint").taken_apart()]
        [('main', 'last-checkpoint')]
        """
        parts = [] if self.path_in_repo else self.revision.split("/")
        for count in range(1, len(parts)):
            with suppress(InvalidInput):
                check_folder(folder := "/".join(parts[count:]))
                yield replace(self, revision="/".join(parts[:count]), path_in_repo=folder)

    def __str__(self) -> str:
        return "/".join(filter(None, [self._ref, self.path_in_repo]))

    @property
    def _ref(self) -> str:
        return f"{self.repo}@{self.revision}"

    def pull_command(self, folder: Path, *, verify: bool = True) -> str:
        """The shell command that does this pull again; it holds no token.

        >>> Source(repo="me/model", revision="v1.0").pull_command(Path("my models/a"))
        "perdure pull me/model@v1.0 'my models/a'"
        """
        words = ["perdure", "pull", self.repo if self.revision == MAIN else self._ref, str(folder)]
        words += ["--path-in-repo", self.path_in_repo] if self.path_in_repo else []
        words += [] if verify else ["--no-verify"]
        return shlex.join(words + endpoint_words(self.endpoint))
