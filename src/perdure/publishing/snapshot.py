"""What a revision holds, read and judged before anything large is downloaded: no path of it leaves its folder."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from perdure.errors import Corrupt, NotFound, Rejected
from perdure.format.manifest import MAX_SIZE, Manifest, decode
from perdure.format.names import CARD, MANIFEST, STAGING_PREFIX, check_name
from perdure.publishing.remote_file import RemoteFile
from perdure.publishing.remote_read import Reader
from perdure.publishing.source import Source
from perdure.publishing.subfolder import joined, own_files, published

# The hint for who wants what a Hub holds although its manifest says otherwise.
AS_IT_IS = "Pull another revision. If somebody changed this one and meant to, add --no-verify (verify=False)."

_OF_THE_HUB = frozenset({".gitattributes"})  # how a Hub stores the files; no part of them
_OURS = STAGING_PREFIX.rstrip("-")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A revision as it stood when it was looked at.

    Args:
        source: What was asked for.
        reader: The Hub that has it.
        repo: The repository's full name.
        commit: The commit at which the revision was; everything is of this one, wherever the revision moves.
        files: Path → file, but for the manifest; in the folder of the repository that was asked for, if one was.
        manifest: The manifest, where there is one.
    """

    source: Source
    reader: Reader
    repo: str
    commit: str
    files: Mapping[str, RemoteFile]
    manifest: Manifest | None

    def __str__(self) -> str:
        return f"{replace(self.source, repo=self.repo)} (commit {self.commit[:12]})"

    @property
    def nbytes(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(file.size for file in self.files.values())

    def stream(self, path: str, *, start: int, stop: int) -> Iterator[bytes]:
        """Bytes `start` to `stop` of a file, as `Reader.stream` has them."""
        address = joined(self.source.path_in_repo, path)
        return self.reader.stream(self.repo, address, self.commit, start=start, stop=stop)


def look(source: Source, token: str | None = None) -> Snapshot:
    """Find out what a revision holds; downloads nothing but its manifest.

    Raises:
        NotFound: There is no such repository, revision or folder.
        Unauthorized: It is not for this token to read.
        Rejected: It holds a path that is not for a folder of a model.
        Corrupt, UnsupportedFormat: Its manifest cannot be trusted, or read.
        Unavailable: The Hub is away.
    """
    reader = Reader(source.endpoint, token)
    source, repo, commit = _located(reader, source)
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise Rejected(f"{source.endpoint} named no commit for {source}, but {commit[:80]!r}. Nothing was downloaded.")
    whole = reader.tree(repo, commit)
    tree = own_files(whole, source.path_in_repo)
    check_paths(str(source), tree)
    files = {path: file for path, file in sorted(tree.items()) if path not in {MANIFEST, *_OF_THE_HUB}}
    if not files and (source.path_in_repo or published(whole)):
        folders = ", ".join(sorted(published(whole))) or "none"
        raise NotFound(f"{source} holds nothing. Nothing was downloaded.", hint=f"Folders with a model: {folders}")
    found = Snapshot(source=source, reader=reader, repo=repo, commit=commit, files=files, manifest=None)
    return replace(found, manifest=_read_manifest(found, tree[MANIFEST])) if MANIFEST in tree else found


def _located(reader: Reader, source: Source) -> tuple[Source, str, str]:
    """Where the source is; `main/last-checkpoint` is a folder of `main`, unless a branch or tag is called so."""
    try:
        return source, *reader.resolve(source)
    except NotFound:
        for shorter in source.taken_apart():
            with suppress(NotFound):
                return shorter, *reader.resolve(shorter)
        raise


def check_paths(where: str, paths: Iterable[str]) -> None:
    """Refuse a tree that cannot be one folder on every disk.

    Raises:
        Rejected: A path leads out of its folder, or is one that programs act on; or two are the same, or in each
            other's way, on some disk.
    """
    seen: dict[str, str] = {}
    for path in paths:
        if reason := _why_not(path):
            raise Rejected(f"{where} holds {path[:200]!r}: {reason}. Nothing was downloaded.")
        key = _on_any_disk(path)
        if key in seen:
            raise Rejected(f"{where} holds {seen[key]!r} and {path!r}, one file on some disks. Nothing was downloaded.")
        seen[key] = path
    for key, path in seen.items():
        for parent in PurePosixPath(key).parents:
            if (other := seen.get(parent.as_posix())) is not None:
                raise Rejected(f"{where} holds {other!r} as a file, and {path!r} in it. Nothing was downloaded.")


def check_complete(snapshot: Snapshot) -> None:
    """Refuse a revision whose tree is not what its manifest says, as far as names and sizes tell.

    Raises:
        Corrupt: It is not.
    """
    for path, entry in () if snapshot.manifest is None else snapshot.manifest.files.items():
        file = snapshot.files.get(path)
        if path == CARD or (file is not None and file.size == entry.size):
            continue  # people edit the card on the Hub, and mean to
        found = "is missing" if file is None else f"is {file.size} bytes, not {entry.size}"
        raise Corrupt(
            f"{snapshot} is not what was saved: {path} {found}. Nothing was downloaded.", path=path, hint=AS_IT_IS
        )


def _why_not(path: str) -> str | None:
    try:
        check_name(path)
        too_long = any(len(part.encode()) > 255 for part in path.split("/"))
    except UnicodeEncodeError:
        return "that is no text"
    except ValueError:
        return "that is no path within a folder"
    parts = _on_any_disk(path).split("/")
    if too_long or _DRIVE.match(path):
        return "no disk has such a name" if too_long else "that names a drive"
    if ".git" in parts or parts[0].startswith(_OURS):
        return "git, or perdure, would act upon it"
    return None


def _on_any_disk(path: str) -> str:
    """The same for paths that some file systems take for one: they pass over case, or how an accent is written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _read_manifest(snapshot: Snapshot, file: RemoteFile) -> Manifest:
    where = Path(f"{snapshot.repo}@{snapshot.commit[:12]}", snapshot.source.path_in_repo, MANIFEST)
    if file.size > MAX_SIZE:
        raise Corrupt(f"The manifest {where} is larger than any save could need. Nothing was downloaded.", path=where)
    text = b"".join(snapshot.stream(MANIFEST, start=0, stop=file.size)) if file.size else b""
    if not file.matches(text):
        raise Corrupt(f"The manifest {where} is not what the Hub says that it is. Nothing was downloaded.", path=where)
    return decode(text, where)
