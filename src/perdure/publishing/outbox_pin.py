"""Hold on to the files of a job, so that nobody can take them away: neither rotation nor a later save.

Of each job the outbox has a folder `jobs/ID`, with its files, and `jobs/ID.json`, which says what is to be done with
them: from these alone a database that was lost is made again.

Large files are held by hard links, which cost no disk until the folder lets go of them. A save of ours never writes
into a file that is there, so what is linked stays as it is. Other programs do, so where there is no manifest to tell
whose files they are, they are copied.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import Corrupt, NotFound, SaveFailed
from perdure.folder import is_interrupted
from perdure.folder.commit import save_failed
from perdure.format.names import CARD, MANIFEST
from perdure.io.digest import Hasher
from perdure.io.durable import fsync_file, fsync_folder, make_folders, write_file
from perdure.io.locks import pinned
from perdure.publishing.job import Ask, decode_ask
from perdure.publishing.prepare import take_over_card
from perdure.publishing.selection import select, size_of

_WRITTEN = ".json"
_LINKED_FROM = 2**20  # bytes; what is smaller may be edited in place by a person, and costs nothing to copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """Files that are held.

    Attributes:
        nbytes: Their bytes.
        digests: Of those that no manifest vouches for, the manifest itself among them: path → digest.
    """

    nbytes: int
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A job as it is written down beside its files.

    Attributes:
        job: Its id.
        created: When it was added, in seconds since 1970.
        guarded: Whether the branch must be where this outbox left it.
    """

    job: str
    ask: Ask
    created: float
    guarded: bool

    def write(self, jobs: Path) -> None:
        """Write it down; durable when this returns.

        Raises:
            SaveFailed: The disk refused.
        """
        path = jobs / f"{self.job}{_WRITTEN}"
        text = json.dumps({"created": self.created, "guarded": self.guarded, "ask": self.ask.encode()})
        try:
            write_file(path, [text.encode()])
            fsync_folder(jobs)
        except OSError as error:
            raise save_failed(path, error) from error


def written_down(jobs: Path) -> list[Written]:
    """The jobs whose files are held, oldest first."""
    found = []
    for path in jobs.glob(f"*{_WRITTEN}"):
        with suppress(OSError, ValueError, TypeError, KeyError):  # half written: its adding never ended
            text = json.loads(path.read_bytes())
            found.append(
                Written(job=path.stem, ask=decode_ask(text["ask"]), created=text["created"], guarded=text["guarded"])
            )
    return sorted(found, key=lambda written: written.created)


def let_go(jobs: Path, job: str) -> None:
    """Let go of the files of a job. What it was goes first: of a job without its files nobody must make one again."""
    (jobs / f"{job}{_WRITTEN}").unlink(missing_ok=True)
    shutil.rmtree(jobs / job, ignore_errors=True)


def sweep(jobs: Path, *, over: Collection[str]) -> None:
    """Remove the files of jobs that are over, and those that were never written down."""
    for path in jobs.iterdir():
        if path.stem in over or not (jobs / f"{path.stem}{_WRITTEN}").exists():
            let_go(jobs, path.stem)


def require_pinned(place: Path, digests: Mapping[str, str]) -> None:
    """Refuse files that are not those that were pinned; for the rest the manifest among them vouches.

    Raises:
        Corrupt: One is missing, or another one.
    """
    for path, digest in digests.items():
        file = place / path
        if not file.is_file():
            raise Corrupt(f"{path} of this job is gone from {place}. Nothing was sent.", path=file)
        if _digest(file) != digest:
            raise Corrupt(f"{path} of this job is not what was queued, in {place}. Nothing was sent.", path=file)


def pin(folder: Path, into: Path, *, training_state: bool) -> Pinned:
    """Hold the files of `folder` that a push sends, in the new folder `into`; durable when this returns.

    Raises:
        NotFound, InvalidInput: There is no such folder, or no model in it.
        Corrupt: A save into it stopped half way, or a file is missing.
        SaveFailed: The disk refused.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder. Nothing was queued.")
    try:
        with pinned(folder):
            nbytes = _pin(folder, into, training_state=training_state)
        ours = (into / MANIFEST).exists()
        if ours and (into / CARD).exists():
            take_over_card(into)
        vouching = [path for path in (MANIFEST, CARD) if (into / path).exists()]
        files = [path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()]
        return Pinned(nbytes=nbytes, digests={path: _digest(into / path) for path in (vouching if ours else files)})
    except OSError as error:
        raise save_failed(into, error) from error


def _pin(folder: Path, into: Path, *, training_state: bool) -> int:
    if is_interrupted(folder):
        raise Corrupt(
            f"A save into {folder} stopped half way. Nothing was queued.",
            path=folder,
            hint=f"Complete it with: {shlex.join(['perdure', 'verify', '--recover', str(folder)])}",
        )
    selection = select(folder) if training_state else select(folder).without_training_state()
    ours = MANIFEST in selection.files
    make_folders(into)
    for path, content in selection.files.items():
        place = into / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            write_file(place, [content])
        elif content.is_file():
            _hold(content, place, link=ours)
        else:
            raise Corrupt(f"{content} is missing: the manifest names {path}. Nothing was queued.", path=content)
    for parent, _, _ in os.walk(into):
        fsync_folder(Path(parent))
    return sum(map(size_of, selection.files.values()))


def _hold(file: Path, place: Path, *, link: bool) -> None:
    if link and file.stat().st_size >= _LINKED_FROM:
        try:
            os.link(file.resolve(), place)
        except OSError:  # another filesystem, or one without links: then it is copied
            pass
        else:
            return
    shutil.copyfile(file, place)
    fsync_file(place)


def _digest(file: Path) -> str:
    hasher = Hasher()
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            hasher.update(block)
    return hasher.hexdigest()


def make(folder: Path) -> None:
    """Make the folder in which files are held.

    Raises:
        SaveFailed: The disk refused.
    """
    try:
        make_folders(folder)
    except OSError as error:
        raise SaveFailed(
            f"{folder} could not be made: {error.strerror}. Nothing was queued.",
            hint="Name a folder for the run, on a disk that can be written to.",
        ) from error
