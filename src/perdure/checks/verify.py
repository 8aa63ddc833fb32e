"""Compare a saved folder with its manifest."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.errors import Corrupt, NotFound
from perdure.folder import is_interrupted, record
from perdure.folder import recover as complete_interrupted
from perdure.folder.paths import files_of, resolve
from perdure.format.header import read_header
from perdure.format.manifest import FileEntry, read_manifest, tensors_entry
from perdure.format.names import MANIFEST, OUTBOX, is_read_by_loaders
from perdure.io import direct
from perdure.io.digest import as_text
from perdure.io.locks import folder_locked

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was saved.

    `kind` is "missing", "changed", "unreadable", "extra" or "interrupted"; `tensor` is named where a tensor's bytes
    are what changed.
    """

    kind: str
    path: str
    tensor: str | None = None
    detail: str = ""

    def __str__(self) -> str:
        where = f"{self.path}: {self.tensor}" if self.tensor is not None else self.path
        return f"{self.kind}: {where}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What `verify` found.

    `files` and `nbytes` count what was compared; `problems` is empty for a whole folder; `extra` are files that
    belong to no save and that no loader reads (notes, logs): they are no problem.
    """

    path: Path
    files: int
    nbytes: int
    problems: tuple[Problem, ...]
    extra: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the folder is, to the byte, what was saved."""
        return not self.problems

    def as_document(self) -> dict[str, Any]:
        """For JSON."""
        problems = [{"kind": p.kind, "path": p.path, "tensor": p.tensor, "detail": p.detail} for p in self.problems]
        return {"path": str(self.path), "ok": self.ok, "files": self.files, "bytes": self.nbytes,
                "problems": problems, "extra": list(self.extra)}  # fmt: skip

    def raise_for_problems(self, *, outcome: str = "") -> None:
        """Raise `Corrupt` with the first problem, if there is any; `outcome` is what follows from it, a sentence."""
        if self.problems:
            first, others = self.problems[0], len(self.problems) - 1
            found = f"{first}, and {others} more" if others else str(first)
            raise Corrupt(
                f"{self.path} is not what was saved: {found}. {outcome}".rstrip(),
                path=self.path / first.path,
                tensor=first.tensor,
                hint=f"See all of it with: perdure verify {self.path}",
            )


def verify(
    folder: str | Path, *, recover: bool = False, accept: Iterable[str] = (), progress: Progress | None = None
) -> Verification:
    """Compare every file of a saved folder with its manifest: size, digest, and each tensor's digest.

    Args:
        folder: What `save_model` or `finish` wrote, or a download of it.
        recover: First complete a replacement of files that was interrupted.
        accept: First record these small files (a card, say) as they are now: edits that were meant.
        progress: Called with the number of bytes compared since the last call.

    Returns:
        What was found, problem by problem; it is for the caller to look at `ok` or call `raise_for_problems`.
        A file that the manifest does not know is a problem if a loader would read it.

    Raises:
        NotFound: There is no such folder, no manifest in it, or no file that `accept` names.
        InvalidInput: `accept` names weights.
        Corrupt, UnsupportedFormat: The manifest itself cannot be trusted or read.

    >>> verify("out").ok  # doctest: +SKIP
    True
    """
    folder = resolve(Path(folder))
    if recover:
        complete_interrupted(folder)
    if names := tuple(accept):
        record(folder, names)
    while True:
        before = _identity(folder)
        try:
            found = _verify(folder, progress or _silent)
            if found.ok:
                return found
        except (NotFound, Corrupt):
            if not _changed(folder, before):
                raise
        else:
            if not _changed(folder, before):
                return found


def _changed(folder: Path, before: tuple[object, ...]) -> bool:
    """Whether a save was put in place meanwhile: then files of one were compared with the manifest of another."""
    if not folder.is_dir():
        return False
    with folder_locked(folder):  # whoever is replacing files right now finishes first
        return _identity(folder) != before


def _identity(folder: Path) -> tuple[object, ...]:
    """What changes whenever a save, or an edit, is put in place."""
    try:
        status, manifest = folder.stat(), (folder / MANIFEST).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, manifest.st_ino, manifest.st_mtime_ns


def _verify(folder: Path, progress: Progress) -> Verification:
    if is_interrupted(folder):
        problem = Problem("interrupted", MANIFEST, detail="a save stopped half way; `--recover` completes it")
        return Verification(path=folder, files=0, nbytes=0, problems=(problem,), extra=())
    manifest = read_manifest(folder)
    problems: list[Problem] = []
    for path, entry in manifest.files.items():
        problems += _compare(folder, path, entry, progress)
    others = (path for path in files_of(folder) if path not in manifest.files and path != MANIFEST)
    unknown = sorted(path for path in others if not path.startswith(f"{OUTBOX}/"))  # files of jobs, as they once were
    problems += [
        Problem("extra", path, detail="a loader may read it, and no save wrote it: move it away")
        for path in unknown
        if is_read_by_loaders(path)
    ]
    return Verification(
        path=folder,
        files=len(manifest.files),
        nbytes=manifest.nbytes,
        problems=tuple(problems),
        extra=tuple(path for path in unknown if not is_read_by_loaders(path)),
    )


def _compare(folder: Path, name: str, entry: FileEntry, progress: Progress) -> Iterator[Problem]:
    path = folder / name
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            yield Problem("changed", name, detail="it is not a file any more")
        elif entry.tensors:
            yield from _compare_tensors(path, name, entry, progress)
        elif as_text(*_digest(path, [(0, status.st_size)], progress)) != entry.digest:
            sizes = "" if status.st_size == entry.size else f"{status.st_size} bytes, {entry.size} were saved"
            yield Problem("changed", name, detail=sizes)
    except (FileNotFoundError, NotADirectoryError):
        yield Problem("missing", name)
    except Corrupt as error:
        yield Problem("changed", name, detail=error.message)
    except OSError as error:
        yield Problem("unreadable", name, detail=error.strerror or str(error))


def _compare_tensors(path: Path, name: str, entry: FileEntry, progress: Progress) -> Iterator[Problem]:
    header = read_header(path)
    if set(header.tensors) != set(entry.tensors) or header.size != entry.size:
        yield Problem("changed", name, detail="its header describes other tensors than were saved")
        return
    spans = [(0, header.length), *((header.length + info.begin, info.nbytes) for info in header.tensors.values())]
    head, *digests = _digest(path, spans, progress)
    found = tensors_entry(header.size, head, dict(zip(header.tensors, digests, strict=True)))
    changed = [tensor for tensor in found.tensors if found.tensors[tensor] != entry.tensors[tensor]]
    for tensor in changed:
        yield Problem("changed", name, tensor)
    if not changed and found.digest != entry.digest:
        yield Problem("changed", name, detail="its header")


def _digest(path: Path, spans: Iterable[tuple[int, int]], progress: Progress) -> tuple[bytes, ...]:
    """The digests of spans (offset, length) of a file, read from the disk itself where that is possible."""
    lock = threading.Lock()

    def count(start: int, data: memoryview) -> None:
        with lock:
            progress(len(data))

    return direct.read(path, [direct.ReadExtent(offset, nbytes, count) for offset, nbytes in spans])


def _silent(nbytes: int) -> None:
    pass
