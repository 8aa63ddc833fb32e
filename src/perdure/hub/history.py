"""Walking everything that a repository's refs reach, for checking it and for collecting the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dulwich.objects import S_ISGITLINK, Blob, Commit, ObjectID, ShaFile, Tag, Tree

from perdure.hub.git import GitRepo
from perdure.hub.tree import MAX_POINTER, Lfs, parse_pointer


def tips(git: GitRepo) -> list[ObjectID]:
    """What the refs point to."""
    return [sha for _, sha in git.all_refs()]


def reachable(git: GitRepo, start: Iterable[ObjectID]) -> Iterator[tuple[ObjectID, ShaFile | None]]:
    """Every object that `start` reaches, once, itself among them; None for one that is missing."""
    pending = list(start)
    seen = set(pending)
    while pending:
        oid = pending.pop()
        try:
            obj: ShaFile | None = git.store[oid]
        except KeyError:
            obj = None
        yield oid, obj
        for child in _children(obj):
            if child not in seen:
                seen.add(child)
                pending.append(child)


def _children(obj: ShaFile | None) -> list[ObjectID]:
    if isinstance(obj, Commit):
        return [obj.tree, *obj.parents]
    if isinstance(obj, Tag):
        return [obj.object[1]]
    if isinstance(obj, Tree):  # a submodule names a commit of another repository
        return [oid for _, mode, oid in obj.iteritems() if not S_ISGITLINK(mode)]
    return []


def pointer_in(obj: ShaFile | None) -> Lfs | None:
    """The large file that an object points to, if it is a pointer."""
    if isinstance(obj, Blob) and obj.raw_length() <= MAX_POINTER:
        return parse_pointer(obj.data)
    return None
