"""Commits, what each changed, branches and tags."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

from dulwich.diff_tree import TreeChange, tree_changes
from dulwich.objects import Blob, Commit, ObjectID
from starlette.responses import Response

from perdure.hub import limits, tree
from perdure.hub.core import Call
from perdure.hub.git import MAIN, GitRepo
from perdure.hub.paths import check_path
from perdure.hub.refs import commit_facts
from perdure.hub.tree import Lfs
from perdure.hub.web import diff, text, view
from perdure.hub.web.diff import Diff

_PAGE: Final = 50
_DEPTH: Final = 5000
_REFS: Final = 200
_FILES: Final = 100
_TEXT: Final = 256 * limits.KIB
_SHOWN: Final = 3000
"""Lines of differences on one page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A file before or after: its size, and its sha256 where it is a large one."""

    size: int
    lfs: Lfs | None
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file that a commit added, modified or removed; `diff` is None for what is not text, or too much of it."""

    path: str
    before: Side | None
    after: Side | None
    diff: Diff | None

    @property
    def kind(self) -> str:
        """What happened to the file."""
        return "added" if self.before is None else "removed" if self.after is None else "modified"


def commits(call: Call) -> Response:
    """The history of a revision, or of one path in it, newest first."""
    revision = call.param("revision")
    path = str(call.request.path_params.get("path", "")).strip("/")
    number = call.count("p", 0, _DEPTH // _PAGE)
    with call.git() as git:
        head = git.resolve(revision)
        past = islice(git.history(head), _DEPTH)
        if path:
            check_path(path)
            past = islice((commit for commit in past if _touches(git, commit, path)), _DEPTH)
        found = list(islice(past, number * _PAGE, (number + 1) * _PAGE + 1))
        if path and not found and not number:
            raise tree.entry_not_found(path, head)
        return view.render(
            call,
            git,
            "commits.html",
            tab="commits",
            revision=revision,
            path=path,
            crumbs=view.crumbs(path),
            commits=[(commit_facts(commit), commit.commit_time) for commit in found[:_PAGE]],
            number=number,
            more=len(found) > _PAGE,
            depth=_DEPTH if len(found) == _PAGE and (number + 1) * _PAGE >= _DEPTH else None,
        )


def _touches(git: GitRepo, commit: Commit, path: str) -> bool:
    now = tree.find(git, commit, path)
    if not commit.parents:
        return now is not None
    parent = git.store[commit.parents[0]]
    assert isinstance(parent, Commit)
    before = None if parent.tree == commit.tree else tree.find(git, parent, path)
    return parent.tree != commit.tree and (now and now.oid) != (before and before.oid)


def commit(call: Call) -> Response:
    """What a commit changed: each file's lines where they are text, its size and digest otherwise."""
    with call.git() as git:
        found = git.resolve(call.param("revision"))
        parent = git.store[found.parents[0]] if found.parents else None
        assert parent is None or isinstance(parent, Commit)
        changes, more = changes_between(git, parent.tree if parent else None, found.tree)
        return view.render(
            call,
            git,
            "commit.html",
            tab="commits",
            revision=found.id.decode(),
            facts=commit_facts(found),
            moment=found.commit_time,
            parents=[oid.decode() for oid in found.parents],
            changes=changes,
            more=more,
        )


def changes_between(git: GitRepo, before: ObjectID | None, after: ObjectID) -> tuple[list[Change], bool]:
    """The files in which two trees differ, as many as a page shows, and whether there are more."""
    listed = list(islice(tree_changes(git.store, before, after), _FILES + 1))
    changes: list[Change] = []
    left = _SHOWN
    for change in listed[:_FILES]:
        changes.append(_change(git, change, left))
        made = changes[-1].diff
        left -= len(made.lines) if made else 0
    return changes, len(listed) > _FILES


def _change(git: GitRepo, change: TreeChange, left: int) -> Change:
    before = _side(git, change.old.sha) if change.old is not None else None
    after = _side(git, change.new.sha) if change.new is not None else None
    named = change.new if change.new is not None else change.old
    assert named is not None and named.path is not None
    texts = [side.text if side else "" for side in (before, after)]
    shown = diff.compare(texts[0], texts[1]) if left > 0 and texts[0] is not None and texts[1] is not None else None
    return Change(path=named.path.decode("utf-8", "replace"), before=before, after=after, diff=shown)


def _side(git: GitRepo, oid: ObjectID | None) -> Side | None:
    stored = git.store[oid] if oid is not None and oid in git.store else None
    if not isinstance(stored, Blob):  # a submodule is not stored here
        return None
    data = stored.data
    lfs = tree.parse_pointer(data)
    content = text.decode(data) if lfs is None and len(data) <= _TEXT else None
    return Side(size=lfs.size if lfs else len(data), lfs=lfs, text=content)


def refs(call: Call) -> Response:
    """Branches and tags, with the commits they point to."""
    number = call.count("p", 0, 10**6)
    with call.git() as git:
        branches = sorted(git.branches().items(), key=lambda item: item[0] != MAIN)
        listed = [("branch", *item) for item in branches] + [("tag", *item) for item in git.tags().items()]
        rows = []
        for kind, name, oid in listed[number * _REFS : (number + 1) * _REFS]:
            tip = git.store[oid]
            if isinstance(tip, Commit):
                rows.append((kind, name, commit_facts(tip), tip.commit_time))
        return view.render(
            call,
            git,
            "refs.html",
            tab="refs",
            revision=MAIN,
            rows=rows,
            counts=(len(branches), len(listed) - len(branches)),
            number=number,
            more=len(listed) > (number + 1) * _REFS,
        )
