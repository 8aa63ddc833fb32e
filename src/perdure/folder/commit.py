"""Write a folder out of sight, make it durable, and put it in place at once.

The road: everything is written into `.NAME.perdure-XXXX/new/` beside the target; files and folders are fsynced, the
manifest last; then `new` and the target are exchanged in one step (or renamed, where there was no target), and the
parent is fsynced. A crash at any moment leaves the old folder or the new one under the target's name.

A target that also holds things of other people (a Trainer's checkpoints, notes), or that cannot be exchanged (a mount
point, the current folder, a parent that cannot be written), is changed file by file: see `perdure.folder.replace`.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from perdure.errors import InvalidInput, PerdureError, SaveFailed
from perdure.folder import replace
from perdure.folder import staging as staging_folders
from perdure.folder.paths import files_of, resolve
from perdure.folder.previous import copy_access, sort_out
from perdure.format.header import Header
from perdure.format.manifest import FileEntry, Manifest, read_manifest, tensors_entry
from perdure.format.names import MANIFEST, check_name
from perdure.io import direct, locks
from perdure.io.digest import as_text, digest_file
from perdure.io.durable import exchange, fsync_file, fsync_folder, make_folders, write_file


class Stage:
    """A folder being written; `path` is where other writers may put files, too, before `commit`."""

    def __init__(self, target: Path, staging: Path) -> None:
        self.target = target
        self.path = staging / "new"
        self._staging = staging
        self._entries: dict[str, FileEntry] = {}

    def write(self, name: str, data: bytes) -> None:
        """Write one small file at the path `name` within the folder."""
        path = self.path / check_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        written = write_file(path, [data])
        self._entries[name] = FileEntry(size=written.size, digest=as_text(written.digests[0]))

    def write_tensors(self, name: str, head: bytes, header: Header, read: Callable[[str], memoryview]) -> None:
        """Write one safetensors file of tensors whose bytes are made when they are needed.

        Args:
            head, header: As `perdure.format.header.lay_out` returns them.
            read: Tensor name → its bytes, contiguous. Called once for each, about in the order of the file, from
                several threads; few of them are held at a time.
        """
        extents = {tensor: _made_late(tensor, info.nbytes, read) for tensor, info in header.tensors.items()}
        self.write_extents(name, head, header, extents)

    def write_extents(
        self,
        name: str,
        head: bytes,
        header: Header,
        extents: Mapping[str, direct.Extent],
        *,
        budget: int = direct.BUDGET,
        threads: int | None = None,
    ) -> None:
        """Write one safetensors file of tensors whose bytes can be had in any order.

        Args:
            extents: Tensor name → its bytes.
            budget: Bytes of memory to pass them through.
            threads: How many do so at once, as for `perdure.io.direct.write`.
        """
        parts = [direct.of_bytes(head), *(extents[tensor] for tensor in header.tensors)]
        written = direct.write(self.path / check_name(name), parts, budget=budget, threads=threads)
        if written.size != header.size:
            raise ValueError(f"the extents of {name} are {written.size} bytes, its header describes {header.size}")
        digests = dict(zip(header.tensors, written.digests[1:], strict=True))
        self._entries[name] = tensors_entry(written.size, written.digests[0], digests)

    def commit(
        self,
        kind: str,
        *,
        stale: Callable[[str], bool],
        step: int | None = None,
        epoch: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> Manifest:
        """Make everything durable, write the manifest, and put the folder in place.

        Args:
            kind: What the manifest calls it: "model", "adapter", "module", "checkpoint".
            stale: Whether a file found in the target under this path, which no manifest names, belongs to an
                older save nevertheless and goes with it.
            step, epoch, metrics: Of what moment of training a checkpoint is.
        """
        for path in files_of(self.path):
            if path not in self._entries:
                fsync_file(self.path / path)
                size, digest = digest_file(self.path / path)
                self._entries[path] = FileEntry(size=size, digest=as_text(digest))
        files = dict(sorted(self._entries.items()))
        manifest = Manifest(kind=kind, files=files, step=step, epoch=epoch, metrics=metrics or {})
        self._seal(manifest)
        self._put_in_place(stale)
        return manifest

    def amend(self) -> Manifest:
        """Put what was written beside the target's other files, and record it in the manifest that is there."""
        with locks.folder_locked(self.target):
            replace.recover_locked(self.target)
            old = read_manifest(self.target)
            manifest = dataclasses.replace(old, files=dict(sorted({**old.files, **self._entries}.items())))
            self._seal(manifest)
            self._replace_files(())
        return manifest

    def _seal(self, manifest: Manifest) -> None:
        """Write the manifest, last, and make every name durable."""
        write_file(self.path / MANIFEST, [manifest.encode()])
        for folder, _, _ in os.walk(self.path):
            fsync_folder(Path(folder))

    def _put_in_place(self, stale: Callable[[str], bool]) -> None:
        while not self.target.exists():
            try:
                self.path.rename(self.target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
                continue  # somebody made it just now: look at it again
            self._make_last(undo=lambda: self.target.rename(self.path))
            return
        with locks.folder_locked(self.target):
            replace.recover_locked(self.target)  # of a saver who had the lock before us, and died
            ours, others = sort_out(self.target, stale)
            kept = [name for name in others if not os.path.lexists(self.path / name)]
            if not (kept or self._inside or _is_current_folder(self.target)):
                copy_access(self.target, self.path)
                if exchange(self.path, self.target):
                    self._make_last(undo=lambda: exchange(self.path, self.target))
                    self._carry_over(stale)
                    return
            self._replace_files(ours)

    def _make_last(self, undo: Callable[[], object]) -> None:
        """Make the new name durable; where the disk refuses even that, what was put in place is taken back."""
        try:
            fsync_folder(self.target.parent)
        except OSError:
            undo()
            raise

    @property
    def _inside(self) -> bool:
        return self._staging.parent == self.target

    def _carry_over(self, stale: Callable[[str], bool]) -> None:
        """Bring what somebody put into the old folder in the very moment of the exchange."""
        _, others = sort_out(self.path, stale)
        for name in others:
            if not os.path.lexists(self.target / name):
                (self.target / name).parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).rename(self.target / name)

    def _replace_files(self, ours: Iterable[str]) -> None:
        if not self._inside:  # the journal must travel with the folder that it is about
            inside = self.target / self._staging.name.removeprefix(f".{self.target.name}")
            self._staging.rename(inside)
            self._staging, self.path = inside, inside / "new"
        coming = list(files_of(self.path))
        for name in coming:
            if (self.target / name).is_dir():
                raise InvalidInput(
                    f"{self.target / name} is a folder where a file of the save must go; nothing was replaced.",
                    hint="Move it away, or save into another folder.",
                )
        leaving = {*ours, *(name for name in coming if os.path.lexists(self.target / name))}
        replace.replace_files(self.target, self._staging, leaving, coming)

    def discard(self) -> None:
        """Remove what was staged and not put in place, and what was replaced."""
        if not replace.is_pending(self._staging):
            replace.discard(self._staging)


def _made_late(name: str, nbytes: int, read: Callable[[str], memoryview]) -> direct.Extent:
    """An extent that asks for its bytes when the first of them is needed, and drops them with the last."""
    lock = threading.Lock()
    held: list[memoryview] = []
    left = nbytes

    def read_into(start: int, out: memoryview) -> None:
        nonlocal left
        with lock:
            if not held:
                held.append(read(name))
            data = held[0]
        if len(data) != nbytes:
            raise SaveFailed(f"{name} changed its size while it was saved; nothing was replaced.")
        direct.copy(out, data[start : start + len(out)])
        with lock:
            left -= len(out)
            if not left:
                held.clear()

    return direct.Extent(nbytes, read_into)


@contextmanager
def stage(target: Path, *, inside: bool = False) -> Iterator[Stage]:
    """Stage a new version of the folder `target`; what `Stage.commit` has not put in place is gone afterwards.

    An earlier interrupted replacement is completed first, and leftovers of dead writers are collected.

    Args:
        target: The folder; it need not exist, nor its parents.
        inside: Stage inside an existing target even where beside it is possible, to change it file by file.

    Raises:
        InvalidInput: `target` is a file, or cannot be a folder's name.
        SaveFailed: The system refused (disk full, no permission, input or output error); the old folder is whole.
    """
    target = resolve(target)
    if os.path.lexists(target) and not target.is_dir():
        raise InvalidInput(f"{target} is not a folder; nothing was written.", hint="Name another folder.")
    try:
        make_folders(target.parent)
        replace.recover(target)
        staging, descriptor = staging_folders.make(target, inside=inside or must_be_inside(target))
    except OSError as error:
        raise save_failed(target, error) from error
    here = Stage(target, staging)
    try:
        here.path.mkdir()
        yield here
    except PerdureError:  # some are OSErrors, too (NotFound), and say what they have to say themselves
        raise
    except OSError as error:
        raise save_failed(target, error) from error
    finally:
        with suppress(OSError):
            here.discard()
        os.close(descriptor)


def save_failed(target: Path, error: OSError, kept: str = "nothing of this save was kept") -> SaveFailed:
    """Say in a user's words what the system refused, and what is `kept` of what was written."""
    reason = error.strerror or str(error)
    hints = {
        errno.ENOSPC: "Free some space there, or save into another folder.",
        errno.EDQUOT: "Your quota is used up: free some space, or save into another folder.",
        errno.EFBIG: "The file size limit is too small (see `ulimit -f`); smaller shards may fit: max_shard_size=…",
        errno.EACCES: "Give yourself write permission there, or save into another folder.",
        errno.EPERM: "Give yourself write permission there, or save into another folder.",
        errno.EROFS: "That filesystem is read-only: save into another folder.",
    }
    old = f"What was in {target} before is whole" if os.path.lexists(target) else "Nothing was there before"
    return SaveFailed(
        f"Saving into {target} failed: {reason}. {old}; {kept}.",
        hint=hints.get(error.errno or 0, "Mend that and save again, or save into another folder."),
    )


def must_be_inside(target: Path) -> bool:
    """Whether a staging folder beside `target` is impossible, or of no use since it will be changed file by file."""
    return target.is_dir() and (
        os.path.ismount(target) or _is_current_folder(target) or not os.access(target.parent, os.W_OK | os.X_OK)
    )


def _is_current_folder(target: Path) -> bool:
    with suppress(OSError):
        return Path.cwd().is_relative_to(target)
    return False
