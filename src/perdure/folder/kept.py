"""A staging folder that stays when its writer is interrupted, for what takes long to bring: a later one goes on.

It lies where other staging folders do, under one name for each target. So there is one at most, and whoever has its
lock is the only one who brings anything to this target. A mark in it keeps others from collecting it as a leftover;
the mark goes when everything is durable and is about to be put in place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from perdure.errors import InvalidInput, PerdureError
from perdure.folder import replace, staging
from perdure.folder.commit import Stage, must_be_inside, save_failed
from perdure.folder.paths import files_of
from perdure.format.names import STAGING_PREFIX
from perdure.io import locks
from perdure.io.durable import fsync_tree, make_folders

_MARK = "kept"


class KeptStage(Stage):
    """A `Stage` whose contents stay where they are until `place`.

    Attributes:
        kept: The staging folder.
    """

    def __init__(self, target: Path, kept: Path, key: str) -> None:
        super().__init__(target, kept)
        self.kept = kept
        self._key = key
        self._placed = False
        mark = kept / _MARK
        if not mark.is_file() or mark.read_text(errors="replace") != key:
            shutil.rmtree(self.path, ignore_errors=True)
            mark.write_text(key)
        self.path.mkdir(exist_ok=True)

    def keep_only(self, names: set[str]) -> None:
        """Remove whatever lies there but for the files of these paths, and may have been left by an earlier writer."""
        for name in list(files_of(self.path)):
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif name not in names or path.is_symlink():
                path.unlink()

    def place(self, *, stale: Callable[[str], bool]) -> None:
        """Make durable what lies in `path`, its manifest included, and put it in place; `stale` as for `commit`."""
        fsync_tree(self.path)
        self._put_in_place(stale)

    def _put_in_place(self, stale: Callable[[str], bool]) -> None:
        (self._staging / _MARK).unlink()
        try:
            super()._put_in_place(stale)
        except BaseException:
            if not replace.is_pending(self._staging):
                self._keep_again()
            raise
        self._placed = True

    def _keep_again(self) -> None:
        if self._staging != self.kept:
            self._staging.rename(self.kept)
        self._staging, self.path = self.kept, self.kept / "new"
        (self.kept / _MARK).write_text(self._key)

    def discard(self) -> None:
        """Remove what was replaced; nothing before the new is in place."""
        if self._placed:
            super().discard()


@contextmanager
def stage_kept(target: Path, key: str) -> Iterator[KeptStage]:
    """`stage`, but what is interrupted, or fails, stays for the next who brings the same to `target`.

    Args:
        target: The folder, resolved.
        key: What is brought; what was kept of anything else is removed.

    Raises:
        InvalidInput: Somebody else is bringing something to `target` now.
        SaveFailed: The system refused; the old folder is whole.
    """
    try:
        make_folders(target.parent)
        replace.recover(target)
        kept, descriptor = _open(target)
    except OSError as error:
        raise save_failed(target, error) from error
    here: KeptStage | None = None
    try:
        here = KeptStage(target, kept, key)
        yield here
    except PerdureError:
        raise
    except OSError as error:
        raise save_failed(target, error, f"what came so far is kept in {kept}") from error
    finally:
        with suppress(OSError):
            if here is not None:
                here.discard()
        locks.release(descriptor)


def _open(target: Path) -> tuple[Path, int]:
    """The staging folder, and a descriptor that holds its lock."""
    inside = must_be_inside(target)
    kept = target / f"{STAGING_PREFIX}kept" if inside else target.parent / f".{target.name}{STAGING_PREFIX}kept"
    while True:
        with suppress(FileExistsError):
            kept.mkdir(mode=0o700)
        try:
            descriptor = os.open(kept, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # a saver collected it before we had its lock
            continue
        if locks.hold(descriptor) is locks.Lock.BUSY:
            os.close(descriptor)
            raise InvalidInput(
                f"Another process is bringing a model to {target} just now. Nothing was changed.",
                hint="Wait for it to end, or name another folder.",
            )
        if staging.is_at(kept, descriptor):
            return kept, descriptor
        os.close(descriptor)
