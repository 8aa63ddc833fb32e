"""Pull requests and discussions, as `huggingface_hub` calls them."""

from __future__ import annotations

import time
from typing import Any, Final

from dulwich.objects import Commit, ObjectID
from starlette.responses import JSONResponse, Response

from perdure.hub import auth, limits, merging
from perdure.hub.core import Call, forbidden
from perdure.hub.discussions import OPEN, Discussion, Event, comment_data
from perdure.hub.git import MAIN, GitRepo, revision_not_found
from perdure.hub.http import ApiError, bad_request, branch_moved, field, message_field
from perdure.hub.refs import timestamp

_PAGE: Final = 50


def list_discussions(call: Call) -> Response:
    """A page of discussions, newest first; `type`, `status` and `author` narrow it."""
    kind, status, author = call.query("type", "all"), call.query("status", "all"), call.query("author")
    found = [
        discussion
        for discussion in call.hub.discussions.all(call.repo)
        if kind in {"all", "pull_request" if discussion.is_pull else "discussion"}
        and (status == "all" or (status == "open") == (discussion.status in OPEN))
        and author in {"", discussion.author}
    ]
    start = call.count("p", 0, 10**6) * _PAGE
    rows = [_facts(call, discussion) for discussion in found[start : start + _PAGE]]
    return JSONResponse({"discussions": rows, "count": len(found), "start": start})


def create(call: Call) -> Response:
    """Open a discussion, or with `pullRequest` a draft to which commits can be pushed."""
    body = call.json()
    title, description = _title(body), message_field(body, "description")
    if field(body, "pullRequest", bool, False):
        with call.git() as git, git.writing():
            head = git.resolve(f"refs/heads/{MAIN}").id
            discussion = open_pull(call, git, title, description, status="draft", base=MAIN, head=head)
    else:
        with call.hub.git.writing(call.repo.id):
            discussion = _new(call, title, status="open", base=None)
            call.hub.discussions.add(call.repo, discussion, description)
    answer = {"num": discussion.num, "pullRequest": discussion.is_pull, "url": discussion_url(call, discussion)}
    return JSONResponse(answer)


def open_pull(
    call: Call, git: GitRepo, title: str, description: str, *, status: str, base: str, head: ObjectID
) -> Discussion:
    """Open a pull request that proposes `head` for the branch `base`; its writers' lock must be held."""
    pull = _new(call, title[: limits.TITLE], status=status, base=base)
    # the ref first: a crash in between leaves one that nobody knows, and the next of that number takes it
    git.set_ref(pull.ref, head)
    call.hub.discussions.add(call.repo, pull, description)
    return pull


def _new(call: Call, title: str, *, status: str, base: str | None) -> Discussion:
    return Discussion(
        num=call.hub.discussions.next_number(call.repo), title=title, author=call.user.name, created=time.time(),
        status=status, base=base, merge_commit=None,
    )  # fmt: skip


def discussion_url(call: Call, discussion: Discussion) -> str:
    """The address of a discussion's page, from which clients read its number."""
    return f"{call.repo_url()}/discussions/{discussion.num}"


def details(call: Call) -> Response:
    """A discussion with all that was said; for a pull request also its commits, conflicts and, with `diff`, changes."""
    discussion = find(call)
    facts = _facts(call, discussion)
    events = call.hub.discussions.events(call.repo, discussion.num)
    if discussion.is_pull:
        with call.git() as git:
            proposed = proposed_by(git, discussion)
            facts |= {"diff": None, "filesWithConflicts": []}
            if proposed is not None:
                events += [_commit_event(commit) for commit in merging.commits(git, proposed)]
                facts["diff"] = merging.diff(git, proposed) if call.flag("diff") else None
                facts["filesWithConflicts"] = merging.conflicts(git, proposed) if discussion.status in OPEN else []
        facts["changes"] = {"base": f"refs/heads/{discussion.base}", "mergeCommitId": discussion.merge_commit}
    opened = events[0].created  # a commit may have been made before it was proposed; and git counts whole seconds
    events.sort(key=lambda event: int(max(event.created, opened)))
    return JSONResponse({**facts, "events": [_event_facts(event) for event in events]})


def comment(call: Call) -> Response:
    """Say something."""
    text = _text(call.json(), "comment")
    event = call.hub.discussions.comment(call.repo, find(call).num, call.user.name, text)
    return JSONResponse({"newMessage": _event_facts(event)})


def edit_comment(call: Call) -> Response:
    """Change what one's own comment says."""
    return _rewrite(call, comment_data(_text(call.json(), "content"), edited=True))


def hide_comment(call: Call) -> Response:
    """Take a comment's text away for good."""
    return _rewrite(call, comment_data("", edited=True, hidden=True))


def _rewrite(call: Call, data: dict[str, Any]) -> Response:
    discussion = find(call)
    events = call.hub.discussions.events(call.repo, discussion.num)
    event = next((e for e in events if e.id == call.param("comment") and e.type == "comment"), None)
    if event is None:
        raise ApiError(404, "There is no such comment.")
    _require_say(call, event.author)
    changed = call.hub.discussions.rewrite(call.repo, discussion.num, event, data)
    return JSONResponse({"updatedComment": _event_facts(changed)})


def rename(call: Call) -> Response:
    """Give a discussion another title."""
    title = _title(call.json())
    with call.hub.git.writing(call.repo.id):
        discussion = find(call)
        _require_say(call, discussion.author)
        event = call.hub.discussions.rename(call.repo, discussion, title, call.user.name)
    return JSONResponse({"newTitle": _event_facts(event)})


def change_status(call: Call) -> Response:
    """Open or close a discussion; opening a draft makes it a pull request that asks to be merged."""
    body = call.json()
    status, text = field(body, "status", str), message_field(body, "comment")
    if status not in {"open", "closed"}:
        raise bad_request("'status' must be 'open' or 'closed'.")
    with call.hub.git.writing(call.repo.id):  # a merge under way ends first
        discussion = find(call)
        _require_say(call, discussion.author)
        if discussion.status == "merged":
            raise ApiError(409, "This pull request was merged; its status stays.")
        event = call.hub.discussions.set_status(call.repo, discussion.num, status, call.user.name, comment=text)
    return JSONResponse({"newStatus": _event_facts(event)})


def merge(call: Call) -> Response:
    """Put what a pull request proposes onto its branch, as one commit; 409 where both changed the same file."""
    text = message_field(call.json(), "comment")
    with call.git() as git, git.writing():
        discussion = find(call)
        if not discussion.is_pull or discussion.status not in OPEN:
            raise ApiError(409, f"This {_what(discussion)} is {discussion.status}; there is nothing to merge.")
        proposed = proposed_by(git, discussion)
        if proposed is None:
            raise revision_not_found(f"refs/heads/{discussion.base}")
        root, trees = merging.merged_tree(git, proposed)
        subjects = [_subject(commit) for commit in merging.commits(git, proposed)][-limits.MERGED_SUBJECTS :]
        message = f"{discussion.title} (#{discussion.num})\n\n" + "".join(f"- {subject}\n" for subject in subjects)
        new = git.commit(trees, root, [proposed.base.id], call.user.name, message)
        if not git.move_branch(discussion.base or MAIN, proposed.base.id, new):
            raise branch_moved()
        # the branch first: a crash in between leaves commits that are there and a pull request that merges to nothing
        event = call.hub.discussions.set_status(
            call.repo, discussion.num, "merged", call.user.name, comment=text, merge_commit=new.decode()
        )
    return JSONResponse({"mergeCommitId": new.decode(), "newStatus": _event_facts(event)})


def own_pull(call: Call, ref: str) -> Discussion:
    """The open pull request that a ref belongs to, which its author and whoever may write can push to.

    Raises:
        ApiError: There is none, it is not open, or it is somebody else's.
    """
    number = ref.removeprefix("refs/pr/")
    valid = number.isascii() and number.isdigit() and len(number) < 10
    discussion = call.hub.discussions.get(call.repo, int(number)) if valid else None
    if discussion is None or not discussion.is_pull:
        raise ApiError(
            404,
            f"Invalid rev id: {ref}: no such pull request; open it first (HfApi.create_pull_request)",
            code="RevisionNotFound",
        )
    if discussion.status not in OPEN:
        raise ApiError(409, f"This pull request is {discussion.status}; open another one.")
    _require_say(call, discussion.author)
    return discussion


def find(call: Call) -> Discussion:
    """The discussion that the address names; 404 when there is none."""
    number = call.param("num")
    valid = number.isascii() and number.isdigit() and len(number) < 10
    discussion = call.hub.discussions.get(call.repo, int(number)) if valid else None
    if discussion is None:
        raise ApiError(404, f"There is no discussion {number[:20]} in this repository.")
    return discussion


def proposed_by(git: GitRepo, discussion: Discussion) -> merging.Proposal | None:
    """What a pull request proposes, for its branch as it is, or was when it was merged; None when that is gone."""
    try:
        if discussion.merge_commit:
            base = git.resolve(git.resolve(discussion.merge_commit).parents[0].decode())
        else:
            base = git.resolve(f"refs/heads/{discussion.base}")
    except ApiError:
        return None
    return merging.proposal(git, base, git.resolve(discussion.ref))


def _require_say(call: Call, author: str) -> None:
    if call.user.name != author and not auth.may_write(call.caller, call.repo):
        raise forbidden(call.user, call.repo.full_name)


def _title(body: dict[str, Any]) -> str:
    title = " ".join(message_field(body, "title").split())
    if not 3 <= len(title) <= limits.TITLE:
        raise bad_request(f"A title must have 3 to {limits.TITLE} characters.")
    return title


def _text(body: dict[str, Any], name: str) -> str:
    text = message_field(body, name)
    if not text:
        raise bad_request(f"{name!r} must say something.")
    return text


def _what(discussion: Discussion) -> str:
    return "pull request" if discussion.is_pull else "discussion"


def _subject(commit: Commit) -> str:
    message: str = commit.message.decode("utf-8", "replace")
    return message.partition("\n")[0][:200]


def _facts(call: Call, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion.num,
        "title": discussion.title,
        "author": {"name": discussion.author, "type": "user"},
        "createdAt": timestamp(discussion.created),
        "status": discussion.status,
        "isPullRequest": discussion.is_pull,
        "repo": {"name": call.repo.full_name, "type": call.repo.kind},
        "url": discussion_url(call, discussion),
    }


def _event_facts(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "author": {"name": event.author, "type": "user"},
        "createdAt": timestamp(event.created),
        "data": event.data,
    }


def _commit_event(commit: Commit) -> Event:
    author = commit.author.decode("utf-8", "replace").partition(" <")[0]
    data = {"subject": _subject(commit), "oid": commit.id.decode()}
    return Event(id=commit.id.decode(), type="commit", author=author, created=commit.commit_time, data=data)
