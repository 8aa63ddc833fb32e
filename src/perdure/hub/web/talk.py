"""Discussions and pull requests, to be read; clients write them."""

from __future__ import annotations

from typing import Any, Final

from markupsafe import Markup
from starlette.responses import Response

from perdure.hub import merging, pulls
from perdure.hub.core import Call
from perdure.hub.discussions import Event
from perdure.hub.git import MAIN
from perdure.hub.refs import commit_facts
from perdure.hub.web import markdown, view
from perdure.hub.web.history import Change, changes_between
from perdure.hub.web.links import Links

_PAGE: Final = 50
_EVENTS: Final = 200
_COMMITS: Final = 100


def discussions(call: Call) -> Response:
    """All of a repository's, newest first."""
    number = call.count("p", 0, 10**6)
    found = call.hub.discussions.all(call.repo)
    with call.git() as git:
        return view.render(
            call,
            git,
            "discussions.html",
            tab="discussions",
            revision=MAIN,
            rows=found[number * _PAGE : (number + 1) * _PAGE],
            number=number,
            more=len(found) > (number + 1) * _PAGE,
        )


def discussion(call: Call) -> Response:
    """What was said in one, and what a pull request changes."""
    found = pulls.find(call)
    events = call.hub.discussions.events(call.repo, found.num)
    commits: list[tuple[dict[str, Any], int]] = []
    changes: list[Change] = []
    more, tip, gone = False, "", False
    with call.git() as git:
        proposed = pulls.proposed_by(git, found) if found.is_pull else None
        if proposed is None:
            gone = found.is_pull
        else:
            commits = [(commit_facts(c), c.commit_time) for c in merging.commits(git, proposed)]
            changes, more = changes_between(git, proposed.fork.tree if proposed.fork else None, proposed.head.tree)
            tip = proposed.head.id.decode()
        return view.render(
            call,
            git,
            "discussion.html",
            tab="discussions",
            revision=MAIN,
            discussion=found,
            events=[(event, _said(call, event)) for event in events[:_EVENTS]],
            left_out=max(0, len(events) - _EVENTS),
            commits=commits[:_COMMITS],
            proposed=len(commits),
            changes=changes,
            more=more,
            tip=tip,
            gone=gone,
        )


def _said(call: Call, event: Event) -> Markup | str:
    text = event.data.get("latest", {}).get("raw", "") if event.type == "comment" else ""
    if not markdown.renders(text):
        return str(text)
    return markdown.render(text, links=Links.to(call.repo), revision=MAIN)
