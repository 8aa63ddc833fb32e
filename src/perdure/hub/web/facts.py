"""What a commit's card and weights say, as the pages show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dulwich.objects import Commit

from perdure.hub import card, tree
from perdure.hub.core import Hub
from perdure.hub.git import GitRepo
from perdure.hub.tree import Entry
from perdure.hub.weights import parameters

README = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One commit: when it was made, its files' number and bytes, its card and its parameters by dtype."""

    commit: Commit
    files: int
    nbytes: int
    readme: str | None
    metadata: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    parameters: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Parameters over all dtypes."""
        return sum(self.parameters.values())

    @property
    def card(self) -> str:
        """The card's text below its metadata."""
        return card.body(self.readme or "")

    def texts(self, key: str) -> list[str]:
        """The strings that a key of the metadata holds: none, one, or a list of them."""
        value = self.metadata.get(key)
        values = value if isinstance(value, list) else [value]
        return [item for item in values if isinstance(item, str)]


def facts_of(hub: Hub, git: GitRepo, commit: Commit) -> Facts:
    """Read them; a broken card is a problem to show, not an error."""
    files = nbytes = 0
    for entry in tree.files(git, commit):
        files += 1
        nbytes += entry.size
    readme = text_of(git, tree.find(git, commit, README))
    metadata, problem = {}, ""
    try:
        metadata = card.read_metadata(readme or "")
    except card.CardError as error:
        problem = str(error)
    return Facts(
        commit=commit,
        files=files,
        nbytes=nbytes,
        readme=readme,
        metadata=metadata,
        problem=problem,
        parameters=parameters(hub.blobs, tree.walk(git, tree.root(commit), recursive=False)),
    )


def text_of(git: GitRepo, entry: Entry | None) -> str | None:
    """A file's text, where it is kept in git; None without one."""
    if entry is None or entry.folder or entry.lfs:
        return None
    return git.blob(entry.oid).decode("utf-8", "replace")
