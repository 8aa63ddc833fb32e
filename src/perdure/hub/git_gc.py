"""Removing objects that no ref reaches from one repository, and packing what is left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dulwich.objects import ObjectID, RawObjectID, sha_to_hex

from perdure.hub.git import GitRepo
from perdure.hub.history import pointer_in, reachable, tips
from perdure.io.durable import fsync_folder

# A push makes a pack, a commit up to some tens of loose objects: from here on reading them is what costs.
_MOST_FILES: Final = 500

_PACK_TRAILER: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is left of a repository: the large files it refers to (sha256); how many objects went, and their bytes."""

    large_files: frozenset[str]
    dropped: int
    dropped_bytes: int


def collect_objects(git: GitRepo, before: float, *, dry_run: bool) -> Kept:
    """Remove the objects that no ref reaches and that were stored before a moment (seconds since 1970).

    Raises:
        KeyError: Something that a ref reaches is missing; nothing was removed.
    """
    wanted, pointers = _walk(git, tips(git))
    stored = set(git.store)
    young = [oid for oid in stored - wanted if git.store.get_object_mtime(oid) >= before]
    # what is kept for a while must be whole, too; what it refers to may be missing already
    also, more = _walk(git, young, whole=False)
    keep = (wanted | also) & stored
    drop = stored - keep
    size = _stored_bytes(git, drop)
    files = git.store.count_loose_objects() + len(list(git.store.packs))
    if not dry_run:
        if drop or files > _MOST_FILES:
            _rewrite(git, keep)
        _tidy(git.folder / "objects")
    return Kept(large_files=frozenset(pointers | more), dropped=len(drop), dropped_bytes=size)


def _walk(git: GitRepo, start: list[ObjectID], *, whole: bool = True) -> tuple[set[ObjectID], set[str]]:
    seen, pointers = set[ObjectID](), set[str]()
    for oid, obj in reachable(git, start):
        if obj is None and whole:
            raise KeyError(f"git object {oid.decode()} is missing")
        seen.add(oid)
        lfs = pointer_in(obj)
        if lfs is not None:
            pointers.add(lfs.oid)
    return seen, pointers


def _stored_bytes(git: GitRepo, oids: set[ObjectID]) -> int:
    """What these objects take on disk, each on its own or in packs."""
    if not oids:
        return 0
    loose = (git.folder / "objects" / name[:2] / name[2:] for name in (oid.decode() for oid in oids))
    total = sum(path.stat().st_size for path in loose if path.exists())
    for pack in git.store.packs:
        entries = sorted((offset, sha_to_hex(RawObjectID(sha))) for sha, offset, _ in pack.index.iterentries())
        ends = [offset for offset, _ in entries[1:]] + [Path(pack.data.path).stat().st_size - _PACK_TRAILER]
        total += sum(end - start for (start, oid), end in zip(entries, ends, strict=True) if oid in oids)
    return total


def _tidy(objects: Path) -> None:
    """Remove what a kill left: packs without an index, files under a name that was to be changed."""
    for path in [*(objects / "pack").iterdir(), *objects.glob("[0-9a-f][0-9a-f]/tmp*"), *objects.glob("tmp*")]:
        if path.name.startswith("tmp") or not path.with_suffix(".idx").exists():
            path.unlink()


def _rewrite(git: GitRepo, keep: set[ObjectID]) -> None:
    """Put `keep` into one pack, durably, and only then remove every other object and pack."""
    old = {Path(pack.data.path).with_suffix("") for pack in git.store.packs}
    new = git.pack(sorted(keep))
    for path in old - {new}:
        for suffix in (".idx", ".rev", ".pack"):  # a pack without its index is invisible
            path.with_suffix(suffix).unlink(missing_ok=True)
    objects = git.folder / "objects"
    for path in objects.glob("[0-9a-f][0-9a-f]/*"):
        path.unlink()
    fsync_folder(objects / "pack")
