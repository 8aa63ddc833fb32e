"""What the pages of one repository have in common."""

from __future__ import annotations

from starlette.responses import Response

from perdure.hub.core import Call
from perdure.hub.git import MAIN, GitRepo
from perdure.hub.web import page
from perdure.hub.web.links import Links

_OFFERED = 100
"""Branches, and tags, that the menu of revisions offers; all of them have a page of their own."""


def render(call: Call, git: GitRepo, template: str, *, tab: str, revision: str, **context: object) -> Response:
    """A page about `call.repo` at `revision`, within the repository's head and tabs."""
    branches, tags = list(git.branches()), list(git.tags())
    return page.render(
        call,
        template,
        repo=call.repo,
        links=Links.to(call.repo),
        tab=tab,
        revision=revision,
        talk=call.hub.discussions.next_number(call.repo) > 1,
        branches=[MAIN, *(name for name in branches if name != MAIN)][:_OFFERED],
        tags=tags[:_OFFERED],
        more_refs=max(0, len(branches) - _OFFERED) + max(0, len(tags) - _OFFERED),
        **context,
    )


def crumbs(path: str) -> list[tuple[str, str]]:
    """A path's segments, each with the path up to it.

    >>> crumbs("a/b.txt")
    [('a', 'a'), ('b.txt', 'a/b.txt')]
    """
    parts = path.split("/") if path else []
    return [(part, "/".join(parts[: index + 1])) for index, part in enumerate(parts)]
