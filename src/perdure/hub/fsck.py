"""Is everything in a store what it was when it was acknowledged? Reads all of it; changes nothing unless asked to.

It can run while a server does: what is stored is only added to, and what a deleted repository had is not missed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.errors import NotGitRepository
from dulwich.objects import ObjectID, ShaFile, Tree

from perdure.hub.blobs import CHUNK, ContentStore, make_private_folder
from perdure.hub.db import Database, Repo
from perdure.hub.git import GitRepo
from perdure.hub.history import pointer_in, reachable, tips
from perdure.hub.http import ApiError
from perdure.hub.ref_check import missing_refs
from perdure.hub.repos import GitRepos
from perdure.hub.storelock import without_server
from perdure.hub.xet.xorb import XetError, check_xorb
from perdure.io.durable import fsync_folder, make_folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Something that is not as it should be.

    Attributes:
        where: What is concerned: a repository, a blob or xorb by its name, or the database.
        what: What is wrong with it.
    """

    where: str
    what: str


@dataclass(slots=True, kw_only=True)
class Report:
    """What was looked at, what was found, and which files were moved to where, seen from the store."""

    damage: list[Damage] = field(default_factory=list)
    repositories: int = 0
    objects: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    xorbs: int = 0
    quarantined: list[str] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """Note something that is wrong."""
        self.damage.append(Damage(where=where, what=what))


def check_store(folder: Path, db: Database, *, quarantine: bool = False) -> Report:
    """Check every row, repository, blob and xorb of the store in `folder`.

    Args:
        folder: The store.
        db: Its database, not opened to be read only where something may go in quarantine.
        quarantine: Move damaged blobs and xorbs out of the way, into the store's folder `quarantine`. As long as one
            lies in its place, clients are told that it is there, and do not send it again.

    Raises:
        InvalidInput: A server runs on a store to put in quarantine: what it takes in meanwhile could be moved.
    """
    if quarantine:
        with without_server(folder, why="what it takes in meanwhile could be moved."):
            return _check_store(folder, db, quarantine=True)
    return _check_store(folder, db, quarantine=False)


def _check_store(folder: Path, db: Database, *, quarantine: bool) -> Report:
    report = Report()
    for problem in db.problems():
        report.add("database", problem)
    damaged = [*_check_blobs(report, ContentStore(folder / "blobs"))]
    damaged += _check_xorbs(report, ContentStore(folder / "xorbs"))
    if quarantine and damaged:
        db.renew_epoch()  # clients remember what they sent to an address, and would not send it again
        for path in damaged:
            report.quarantined.append(_set_aside(folder, path))
    for repo in db.repos():
        report.repositories += 1
        _check_repo(report, folder, db, repo, {path.name for path in damaged})
    return report


def _set_aside(folder: Path, path: Path) -> str:
    target = folder / "quarantine" / path.relative_to(folder)
    make_private_folder(folder / "quarantine")
    make_folders(target.parent)
    path.replace(target)
    fsync_folder(target.parent)
    fsync_folder(path.parent)
    return target.relative_to(folder).as_posix()


def _check_blobs(report: Report, blobs: ContentStore) -> Iterator[Path]:
    """Check every blob; the damaged ones."""
    for path in _files(blobs):
        if path != blobs.path(path.name):
            report.add(f"blob {path.name}", "it lies in a folder where nobody looks for it")
        digest = hashlib.sha256()
        try:
            with path.open("rb", buffering=0) as file:
                while data := file.read(CHUNK):
                    digest.update(data)
                    report.blob_bytes += len(data)
        except FileNotFoundError:  # collected meanwhile: what was needed of it is missed where it is referred to
            continue
        except OSError as error:
            report.add(f"blob {path.name}", f"it cannot be read: {error}")
            yield path
            continue
        report.blobs += 1
        if digest.hexdigest() != path.name:
            report.add(f"blob {path.name}", f"its bytes have another sha256 ({path})")
            yield path


def _check_xorbs(report: Report, xorbs: ContentStore) -> Iterator[Path]:
    """Check every xorb; the damaged ones."""
    for path in _files(xorbs):
        try:
            check_xorb(path, path.name)
        except FileNotFoundError:
            continue
        except (XetError, OSError) as error:
            report.add(f"xorb {path.name}", f"{error} ({path})")
            yield path
        report.xorbs += 1


def _files(store: ContentStore) -> list[Path]:
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def _check_repo(report: Report, folder: Path, db: Database, repo: Repo, damaged: set[str]) -> None:
    repos = GitRepos(folder / "repos", folder / "staging")
    found = missing_refs(repos, db, repo)
    with suppress(ApiError, NotGitRepository), repos.open(repo.id) as git:
        found += _check_objects(report, git)
        found += _check_pointers(git, ContentStore(folder / "blobs"), db, repo, damaged)
    if found and db.repo_by_id(repo.id) is not None:  # it may have been deleted while we looked
        for what in dict.fromkeys(found):
            report.add(f"{repo.kind} {repo.full_name}", what)


def _check_objects(report: Report, git: GitRepo) -> Iterator[str]:
    try:
        names = sorted(set(git.store))
    except Exception as error:
        yield f"its objects cannot be listed: {_words(error)}"
        return
    for oid in names:
        report.objects += 1
        why = _why_damaged(git, oid)
        if why:
            yield f"git object {oid.decode()} {why}"


def _why_damaged(git: GitRepo, oid: ObjectID) -> str | None:
    try:
        kind, data = git.store.get_raw(oid)
        return None if ShaFile.from_raw_string(kind, data).id == oid else "has other bytes than its name says"
    except Exception as error:
        return f"cannot be read: {_words(error)}"


def _check_pointers(git: GitRepo, blobs: ContentStore, db: Database, repo: Repo, damaged: set[str]) -> Iterator[str]:
    wrong: dict[ObjectID, str] = {}
    try:
        for oid, obj in reachable(git, tips(git)):
            if obj is None:
                yield f"git object {oid.decode()} is missing"
            lfs = pointer_in(obj)
            if lfs is None:
                continue
            if blobs.size(lfs.oid) is None:
                wrong[oid] = f"the large file with the sha256 {lfs.oid} is missing"
            elif lfs.oid in damaged:
                wrong[oid] = f"the large file with the sha256 {lfs.oid} is damaged"
            elif blobs.size(lfs.oid) != lfs.size:
                wrong[oid] = f"the large file with the sha256 {lfs.oid} does not have {lfs.size} bytes"
            elif not db.holds(repo, lfs.oid):
                wrong[oid] = f"it is not recorded that it holds the large file with the sha256 {lfs.oid}"
    except Exception as error:
        yield f"its history cannot be read to the end: {_words(error)}"
    names = _names(git) if wrong else {}
    for oid, why in wrong.items():
        yield f"{why} ({names[oid]})" if oid in names else why


def _names(git: GitRepo) -> dict[ObjectID, str]:
    """What git's objects are called in their folders, as far as these can be read."""
    names: dict[ObjectID, str] = {}
    with suppress(Exception):  # of damaged objects dulwich tells in a dozen ways, and they were named before
        for _, obj in reachable(git, tips(git)):
            if isinstance(obj, Tree):
                names |= {oid: repr(name.decode("utf-8", "replace")) for name, _, oid in obj.iteritems()}
    return names


def _words(error: Exception) -> str:
    """What an error says, on one line; of a missing key dulwich says its bytes alone."""
    said = error.args[0] if len(error.args) == 1 else str(error)
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return " ".join(text.split()) or type(error).__name__
