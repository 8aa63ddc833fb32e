"""Large files by content: staged, digested while they stream in, durable before they get their name.

```text
blobs/ab/cd/abcd…   whole files by their sha256 (git-lfs's own layout)
staging/…           what is on its way; nothing in it was ever acknowledged, so a start may empty it
```
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from perdure.io.durable import fsync_folder, make_folders, write_all

CHUNK: Final = 1024 * 1024
"""Bytes moved at once between disk, digest and network."""


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter, its name made durable; one that is there stays as it is."""
    make_folders(folder.parent)
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        fsync_folder(folder.parent)


class Staged:
    """A file on its way into the store. As a context manager it removes what was not put in place.

    Attributes:
        path: Where the bytes are now.
        size: Bytes written so far.
    """

    def __init__(self, path: Path, *, digest: bool) -> None:
        self.path = path
        self.size = 0
        self._sha256 = hashlib.sha256() if digest else None
        # 0666 and the umask, as for any file a person saves; who may come to it at all, its folders decide
        self._file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb", buffering=0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`, all of it. It is durable only after `sync`."""
        view = memoryview(data)
        if self._sha256 is not None:
            self._sha256.update(view)
        self.size += len(view)
        write_all(self._file.fileno(), view)

    def sha256(self) -> str:
        """The digest of what was written, in hex; only for a file staged with `digest=True`."""
        assert self._sha256 is not None
        return self._sha256.hexdigest()

    def sync(self) -> None:
        """Make the content durable and take no more."""
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class Staging:
    """The folder for files on their way in, on the same file system as the stores they go to.

    Emptied when opened: only one server has the folder, and nothing in it was acknowledged.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        make_private_folder(folder)
        self.folder = folder

    def new(self, *, digest: bool = True) -> Staged:
        """A new, empty file to write to; without `digest` its sha256 is not computed."""
        return Staged(self.folder / secrets.token_hex(16), digest=digest)


class ContentStore:
    """Files named by a hash of their content, in two levels of folders.

    Args:
        folder: Its root; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._making = threading.Lock()

    def path(self, name: str) -> Path:
        """Where the file of that name is, or would be."""
        return self.folder / name[:2] / name[2:4] / name

    def size(self, name: str) -> int | None:
        """The stored size in bytes, or None when it is not stored."""
        try:
            return self.path(name).stat().st_size
        except FileNotFoundError:
            return None

    def keep(self, name: str) -> bool:
        """Whether a file is stored; if so it counts as new again, so that nothing collects what somebody builds on."""
        try:
            os.utime(self.path(name))
        except FileNotFoundError:
            return False
        return True

    def names(self) -> Iterator[str]:
        """The name of every stored file, sorted."""
        for path in sorted(self.folder.glob("*/*/*")):
            yield path.name

    def put(self, name: str, staged: Staged) -> None:
        """Give a staged file its name. When this returns, file and name are durable."""
        staged.sync()
        target = self.path(name)
        with self._making:  # a folder another thread is making is there before its name is durable
            make_folders(target.parent)
        staged.path.replace(target)
        fsync_folder(target.parent)
