"""Removing what nothing refers to. No server may run on the store meanwhile.

What was stored, or promised to be there, within the grace time is kept whether or not anything refers to it: an
upload that is under way comes in many requests, and only its last one makes the reference.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from perdure.errors import Corrupt
from perdure.hub.blobs import ContentStore
from perdure.hub.db import Database, Repo
from perdure.hub.git_gc import Kept, collect_objects
from perdure.hub.ref_check import missing_refs
from perdure.hub.repos import GitRepos
from perdure.hub.storelock import without_server
from perdure.hub.xet.dedup import Deduplication


@dataclass(slots=True, kw_only=True)
class Collected:
    """What was removed, or would have been; sizes in bytes."""

    blobs: list[str] = field(default_factory=list)
    xorbs: list[str] = field(default_factory=list)
    repositories: list[str] = field(default_factory=list)
    objects: int = 0
    size: int = 0


def collect(
    folder: Path, db: Database, *, grace: float, dry_run: bool = False, remove_orphans: bool = False
) -> Collected:
    """Remove from the store in `folder` what nothing refers to and is older than `grace` seconds.

    A kill at any moment leaves a sound store; the next run goes on.

    Args:
        folder: The store.
        db: Its database.
        grace: Seconds.
        dry_run: Only find out what would go.
        remove_orphans: Also remove repositories that the database does not know, and what they alone refer to.

    Raises:
        InvalidInput: A server runs on the store.
        Corrupt: A repository is damaged, so what it refers to cannot be told; or the database does not know one.
            Nothing was removed.
    """
    with without_server(folder, why="what it is being sent would look like what nothing refers to."):
        collected, before = Collected(repositories=_orphans(folder, db)), time.time() - grace
        if collected.repositories and not remove_orphans:
            raise _orphaned(folder, collected.repositories)
        needed = _collect_repositories(collected, folder, db, before, dry_run=dry_run)
        kept = _collect_blobs(collected, ContentStore(folder / "blobs"), db, needed, before, dry_run=dry_run)
        _collect_xorbs(collected, ContentStore(folder / "xorbs"), db, kept, before, dry_run=dry_run)
    return collected


def _orphans(folder: Path, db: Database) -> list[str]:
    return sorted({path.stem for path in (folder / "repos").glob("*.git")} - {repo.id for repo in db.repos()})


def _orphaned(folder: Path, names: list[str]) -> Corrupt:
    # a kill between making or removing a folder and its row leaves one; a database that is older, all that came since
    return Corrupt(
        f"The database does not know {len(names)} of the repositories in {folder / 'repos'}; nothing was removed.",
        path=folder / "repos" / f"{names[0]}.git",
        hint="Where the database is older than the repositories, put back the one that was copied with them. One that "
        "is left of a kill while it was made or deleted goes with: perdure hub gc --dir DIR --remove-orphans",
    )


def _collect_repositories(
    collected: Collected, folder: Path, db: Database, before: float, *, dry_run: bool
) -> set[str]:
    """The large files that are needed; on the way, objects that no ref reaches go, and orphans."""
    known, repos, needed = db.repos(), GitRepos(folder / "repos", folder / "staging"), set[str]()
    for repo in known:
        if missing := missing_refs(repos, db, repo):
            raise _damaged(folder, repo, "; ".join(missing))
        kept = _collect_repository(folder, repos, repo, before, dry_run=True)
        needed |= kept.large_files
        collected.objects += kept.dropped
        collected.size += kept.dropped_bytes
    for path in (folder / "repos" / f"{name}.git" for name in collected.repositories):
        collected.size += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if not dry_run:
            shutil.rmtree(path)
    if not dry_run:  # now that every repository is known to be whole
        for repo in known:
            _collect_repository(folder, repos, repo, before, dry_run=False)
    return needed


def _collect_repository(folder: Path, repos: GitRepos, repo: Repo, before: float, *, dry_run: bool) -> Kept:
    try:
        with repos.open(repo.id) as git:
            return collect_objects(git, before, dry_run=dry_run)
    except Exception as error:  # of damaged objects dulwich tells in a dozen ways
        raise _damaged(folder, repo, str(error)) from error


def _damaged(folder: Path, repo: Repo, why: str) -> Corrupt:
    return Corrupt(
        f"The {repo.kind} {repo.full_name} is damaged ({why}); no large file was removed.",
        path=folder / "repos" / f"{repo.id}.git",
        hint=f"perdure hub fsck --dir {folder} names what is wrong.",
    )


def _collect_blobs(
    collected: Collected, blobs: ContentStore, db: Database, needed: set[str], before: float, *, dry_run: bool
) -> set[str]:
    """The files that stay, and those that should be there: what they were made of can bring them back."""
    stored = set(blobs.names())
    gone = {name for name in stored if name not in needed and _older(blobs, name, before)}
    collected.blobs = sorted(gone)
    collected.size += sum(blobs.size(name) or 0 for name in gone)
    if not dry_run:
        db.release(gone)  # the rows first: a kill in between leaves files that the next run removes
        for name in collected.blobs:
            blobs.path(name).unlink(missing_ok=True)
    return needed | (stored - gone)


def _collect_xorbs(
    collected: Collected, xorbs: ContentStore, db: Database, kept: set[str], before: float, *, dry_run: bool
) -> None:
    dedup = Deduplication(db)
    used = {xorb for xorb, files in dedup.uses().items() if files & kept}
    collected.xorbs = [name for name in xorbs.names() if name not in used and _older(xorbs, name, before)]
    collected.size += sum(xorbs.size(name) or 0 for name in collected.xorbs)
    if dry_run or not collected.xorbs:
        return
    # clients never send twice what they sent to an address: with another one they know nothing of what goes now
    db.renew_epoch()
    dedup.forget(collected.xorbs)
    for name in collected.xorbs:
        xorbs.path(name).unlink(missing_ok=True)


def _older(store: ContentStore, name: str, before: float) -> bool:
    return store.path(name).stat().st_mtime < before
