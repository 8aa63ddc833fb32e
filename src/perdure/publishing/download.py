"""The files of a revision → a folder on this disk: several at once, each gone on with where it broke off, and verified.

What is there of a file from earlier is digested again before the rest is asked for, so that nothing rests on what an
interruption, or a power cut, left of it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO

from perdure.errors import Corrupt, Unavailable
from perdure.publishing.remote_file import Digest, RemoteFile
from perdure.publishing.snapshot import Snapshot

_AT_ONCE = 4
_PART = 4 * 2**30  # bytes asked for at once: content networks send 50 GB in one answer, and not more
_BLOCK = 2**20
_WAITS = (1.0, 2.0, 4.0, 8.0, 8.0)  # seconds before the next try, while none brings anything
_LONGEST_WAIT = 60.0

Progress = Callable[[int], object]


class Download:
    """The download of a snapshot's files into a folder.

    Args:
        progress: Called with the number of bytes that are there since the last call; never twice at once.

    Attributes:
        received: Bytes that came over the network.
    """

    def __init__(self, snapshot: Snapshot, folder: Path, progress: Progress) -> None:
        self.received = 0
        self._snapshot = snapshot
        self._folder = folder
        self._progress = progress
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self) -> None:
        """Download what is not there yet; on return every file is what the Hub says that it is.

        Raises:
            Corrupt: The Hub sent something else, twice.
            HubError: It sent nothing, or not all. What came is kept.
            OSError: The disk refused.
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="perdure-pull") as pool:
            try:
                jobs = [pool.submit(self._file, path, file) for path, file in self._snapshot.files.items()]
                done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            except BaseException:
                self._end(pool)
                raise
            if failures := [error for job in done if (error := job.exception()) is not None]:
                self._end(pool)
                raise failures[0]

    def _end(self, pool: ThreadPoolExecutor) -> None:
        self._stop.set()
        pool.shutdown(wait=True, cancel_futures=True)

    def _file(self, path: str, file: RemoteFile) -> None:
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a+b") as out:
            if out.tell() > file.size:
                out.truncate(0)
            had = out.tell() > 0
            if self._complete(path, file, out) or (had and self._anew(path, file, out)):
                return
        place.unlink()
        raise Corrupt(
            f"{self._snapshot.source.endpoint} sent something else for {path} of {self._snapshot} than it says that "
            "it holds. Nothing was put in place.",
            path=path,
            expected=file.sha256 or file.blob_id,
            hint="Pull again; if it says the same, push that revision again from where it was saved.",
        )

    def _anew(self, path: str, file: RemoteFile, out: BinaryIO) -> bool:
        """What there was of it was damaged: as if nothing had been there."""
        self._came(-file.size, received=False)
        out.truncate(0)
        return self._complete(path, file, out)

    def _complete(self, path: str, file: RemoteFile, out: BinaryIO) -> bool:
        """Append what is missing of a file; whether all of it is then what the Hub says."""
        digest = Digest(file)
        out.seek(0)
        while (block := out.read(_BLOCK)) and not self._stop.is_set():
            digest.update(block)
            self._came(len(block), received=False)
        for block in self._rest(path, out.tell(), file.size):
            if self._stop.is_set():
                break
            out.write(block)
            digest.update(block)
            self._came(len(block), received=True)
        out.flush()
        return self._stop.is_set() or digest.matches

    def _rest(self, path: str, start: int, size: int) -> Iterator[bytes]:
        """A file's bytes from `start` on, asked for again where they break off."""
        failures = 0
        while start < size and not self._stop.is_set():
            part = self._snapshot.stream(path, start=start, stop=min(size, start + _PART))
            try:
                for block in part:
                    yield block
                    start += len(block)
                    failures = 0
            except Unavailable as error:
                if failures == len(_WAITS) or error.retry_after > _LONGEST_WAIT:
                    raise
                self._stop.wait(max(error.retry_after, _WAITS[failures] * random.uniform(0.5, 1)))
                failures += 1

    def _came(self, count: int, *, received: bool) -> None:
        with self._lock:
            self.received += count if received else 0
            self._progress(count)
