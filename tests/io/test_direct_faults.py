"""Disks and sources that refuse, fail, or do less than they are asked to."""

from __future__ import annotations

import errno
import os
import resource
import threading
from pathlib import Path

import pytest
from disks import DATA, Waiting, check_file, read_back, some

from perdure.errors import Corrupt
from perdure.io.digest import CHUNK
from perdure.io.direct import Extent, ReadExtent, of_bytes, read, write
from perdure.io.workers import PAGE, SLAB


class NoDirect(Waiting):
    """Lets a file be opened for direct I/O, and then refuses it."""

    refused = 0

    def open_around_cache(self, path: Path, *, writing: bool) -> int | None:
        self.around = super().open_around_cache(path, writing=writing)
        return self.around

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        self.refuse(descriptor)
        return super().write(descriptor, data, offset)

    def read(self, descriptor: int, out: memoryview, offset: int) -> int:
        self.refuse(descriptor)
        return super().read(descriptor, out, offset)

    def refuse(self, descriptor: int) -> None:
        if descriptor == self.around:
            self.refused += 1
            raise OSError(errno.EINVAL, "Invalid argument")


def test_a_filesystem_that_refuses_direct_io_late(tmp_path: Path, no_leaks: None) -> None:
    sizes = (PAGE, CHUNK + 5, 3)
    disk = NoDirect()
    written = write(tmp_path / "f", list(map(of_bytes, some(sizes))), disk=disk)
    check_file(tmp_path / "f", some(sizes))
    outs, digests = read_back(tmp_path / "f", sizes, disk)
    assert outs == some(sizes)
    assert digests == written.digests
    if disk.around is not None:
        assert disk.refused


class Short(Waiting):
    """Moves fewer bytes than it is asked to, as a disk does that is nearly full, or a call that was interrupted."""

    def __init__(self, most: int) -> None:
        self.most = most

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        return super().write(descriptor, data[: self.most], offset)

    def read(self, descriptor: int, out: memoryview, offset: int) -> int:
        return super().read(descriptor, out[: self.most], offset)


@pytest.mark.parametrize("most", [512, PAGE, 3 * PAGE, SLAB - 512])
def test_short_writes_and_reads_are_continued(tmp_path: Path, most: int) -> None:
    sizes = (100, SLAB + 5 if most < SLAB / 2 else CHUNK + 5, PAGE)
    parts = some(sizes)
    assert write(tmp_path / "f", list(map(of_bytes, parts)), disk=Short(most)).size == sum(sizes)
    check_file(tmp_path / "f", parts)
    assert read_back(tmp_path / "f", sizes, Short(most))[0] == parts


class Faulty(Waiting):
    """Fails at one of its calls."""

    def __init__(self, fail_at: int, code: int) -> None:
        self.fail_at, self.code, self.calls = fail_at, code, 0
        self.lock = threading.Lock()

    def __getattribute__(self, name: str) -> object:
        method = super().__getattribute__(name)
        if name not in ("create", "open", "open_around_cache", "allocate", "write", "read", "fsync"):
            return method

        def call(*args: object, **kwargs: object) -> object:
            with self.lock:
                self.calls += 1
                fails = self.calls == self.fail_at
            if fails:
                raise OSError(self.code, os.strerror(self.code))
            return method(*args, **kwargs)  # type: ignore[operator]

        return call


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_at_any_call(tmp_path: Path, no_leaks: None, code: int) -> None:
    parts = some((100, CHUNK + 5, SLAB))
    path = tmp_path / "f"
    for action in ("write", "read"):
        fail_at = 0
        while True:
            fail_at += 1
            disk = Faulty(fail_at, code)
            if action == "write":
                path.unlink(missing_ok=True)
            try:
                if action == "write":
                    write(path, list(map(of_bytes, parts)), disk=disk)
                else:
                    read_back(path, [len(part) for part in parts], disk)
            except OSError as error:
                assert error.errno == code
                assert disk.calls >= fail_at
            else:
                assert disk.calls < fail_at, "an error was lost"
                break
        assert fail_at > 5
    check_file(path, parts)


def test_the_first_error_of_a_source_ends_it(tmp_path: Path, no_leaks: None) -> None:
    calls = []

    def read_into(start: int, out: memoryview) -> None:
        calls.append(start)
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone"):
        write(tmp_path / "f", [Extent(100 * CHUNK, read_into)], threads=3)
    assert len(calls) <= 3

    (tmp_path / "g").write_bytes(DATA)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path / "g", [ReadExtent(0, len(DATA), lambda start, data: (_ for _ in ()).throw(KeyboardInterrupt))])


def test_where_no_thread_can_be_started_the_caller_does_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    parts = some((CHUNK + 5, CHUNK))
    write(tmp_path / "f", list(map(of_bytes, parts)))
    check_file(tmp_path / "f", parts)


def test_a_file_size_limit_is_told(tmp_path: Path, no_leaks: None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / "f", [of_bytes(bytes(3_000_000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("length", [0, 1, PAGE, PAGE + 1, SLAB + 1])
def test_a_file_that_is_too_short_is_corrupt(tmp_path: Path, no_leaks: None, length: int) -> None:
    (tmp_path / "f").write_bytes(bytes(length))
    with pytest.raises(Corrupt, match=f"ends at byte {length}"):
        read_back(tmp_path / "f", [length + 1])
    with pytest.raises(FileNotFoundError):
        read_back(tmp_path / "missing", [1])
