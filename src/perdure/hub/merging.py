"""What a pull request proposes: its commits, its changes, and whether they go with what the branch has become."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

from dulwich.diff_tree import TreeChange, tree_changes
from dulwich.graph import find_merge_base
from dulwich.objects import Blob, Commit, ObjectID
from dulwich.patch import write_object_diff

from perdure.hub import limits
from perdure.hub.git import GitRepo, Writable
from perdure.hub.http import ApiError
from perdure.hub.tree import TreeEditor, locate


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A pull request in git.

    Attributes:
        base: The newest commit of the branch it is to go into (once merged: of the time before).
        head: The newest commit it proposes.
        fork: The newest commit that both have; None where they share no history.
    """

    base: Commit
    head: Commit
    fork: Commit | None


def proposal(git: GitRepo, base: Commit, head: Commit) -> Proposal:
    """Find where `head` left what `base` has."""
    common = find_merge_base(git.repo, [base.id, head.id])
    fork = git.store[common[0]] if common else None
    assert fork is None or isinstance(fork, Commit)
    return Proposal(base=base, head=head, fork=fork)


def commits(git: GitRepo, proposed: Proposal) -> list[Commit]:
    """The commits it adds, oldest first; the newest thousand where there are more."""
    walker = git.repo.get_walker(
        include=[proposed.head.id], exclude=[proposed.base.id], max_entries=limits.PULL_COMMITS, reverse=True
    )
    return [entry.commit for entry in walker]


def diff(git: GitRepo, proposed: Proposal) -> str:
    """Its changes as git shows them, with a line in place of what is too large to be read by people."""
    text, pairs = io.BytesIO(), 0
    for path, change in _changes(git, proposed):
        sides = [_data(git, entry.sha) for entry in (change.old, change.new) if entry is not None]
        cost = math.prod(side.count(b"\n") + 1 for side in sides) if len(sides) == 2 else 0
        too_long = max(map(len, sides)) > limits.DIFF_FILE or pairs + cost > limits.DIFF_PAIRS
        if too_long or text.tell() > limits.DIFF:
            text.write(b"# not shown, too large: " + path + b"\n")
            continue
        pairs += cost
        old, new = ((e.path, e.mode, e.sha) if e else (None, None, None) for e in (change.old, change.new))
        write_object_diff(text, git.store, old, new)
    return text.getvalue().decode("utf-8", "replace")


def _data(git: GitRepo, oid: ObjectID | None) -> bytes:
    blob = git.store[oid] if oid is not None and oid in git.store else None  # a submodule's commit is elsewhere
    return blob.data if isinstance(blob, Blob) else b""


def _changes(git: GitRepo, proposed: Proposal) -> Iterator[tuple[bytes, TreeChange]]:
    start = proposed.fork.tree if proposed.fork else None
    for change in tree_changes(git.store, start, proposed.head.tree):
        entry = change.new or change.old
        assert entry is not None and entry.path is not None
        yield entry.path, change


def conflicts(git: GitRepo, proposed: Proposal) -> list[str]:
    """The files that it and the branch changed, each in its own way."""
    return _merge(git, proposed)[1]


def merged_tree(git: GitRepo, proposed: Proposal) -> tuple[ObjectID, list[Writable]]:
    """The branch's tree with what is proposed, and the tree objects to store.

    Raises:
        ApiError: 409, naming the files that both changed.
    """
    editor, clashing = _merge(git, proposed)
    if clashing:
        names = ", ".join(clashing[:10])
        raise ApiError(409, f"This pull request conflicts with its branch in: {names}. Nothing was merged.")
    return editor.finish()


def _merge(git: GitRepo, proposed: Proposal) -> tuple[TreeEditor, list[str]]:
    """File by file: what only one side changed is taken from it."""
    editor = TreeEditor(git, proposed.base.tree)
    clashing = []
    for path, change in _changes(git, proposed):
        name = path.decode("utf-8", "replace")
        before, theirs = ((e.mode, e.sha) if e else None for e in (change.old, change.new))
        ours = locate(git, proposed.base, name)
        if ours == theirs:
            continue
        if ours != before or not _apply(editor, name, change):
            clashing.append(name)
    return editor, clashing


def _apply(editor: TreeEditor, path: str, change: TreeChange) -> bool:
    if change.new is None:
        return editor.remove(path, folder=False)
    assert change.new.sha is not None and change.new.mode is not None
    try:
        editor.put(path, change.new.sha, change.new.mode)
    except ApiError:  # the branch has a folder of that name, or a file where it has a folder
        return False
    return True
