from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest

from perdure.io.digest import digest_bytes
from perdure.io.durable import exchange, fsync_folder, write_file
from perdure.io.locks import Lock, folder_locked, hold


def test_write_file_digests_each_part(tmp_path: Path) -> None:
    written = write_file(tmp_path / "f", [b"head", memoryview(b"body" * 3_000_000)])
    assert written.size == 4 + 12_000_000 == (tmp_path / "f").stat().st_size
    assert written.digests == (digest_bytes(b"head"), digest_bytes(b"body" * 3_000_000))


def test_write_file_honours_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_file(tmp_path / "f", [b"x"])
    finally:
        os.umask(old)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_write_file_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "f", [b"new"])
    assert (tmp_path / "f").read_bytes() == b"old"


def test_write_file_reports_a_limit(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_file(tmp_path / "f", [bytes(3_000_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_exchange_swaps_folders_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"is-{name}").touch()
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/is-b").exists()
    assert (tmp_path / "b/is-a").exists()
    fsync_folder(tmp_path)


def test_exchange_says_when_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert not exchange(tmp_path / "a", Path("/proc"))
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "missing")


def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    with folder_locked(tmp_path):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        assert hold(descriptor) is Lock.BUSY
        os.close(descriptor)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert hold(descriptor) is Lock.TAKEN
    os.close(descriptor)


def test_who_waits_gets_the_folder_that_has_the_name_then(tmp_path: Path) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    other.mkdir()
    (other / "new").touch()
    seen: list[bool] = []
    started = threading.Event()

    def wait() -> None:
        started.set()
        with folder_locked(here):
            descriptor = os.open(here, os.O_RDONLY)
            seen.append(hold(descriptor) is Lock.BUSY and (here / "new").exists())
            os.close(descriptor)

    with folder_locked(here):
        waiter = threading.Thread(target=wait)
        waiter.start()
        started.wait(10)
        assert exchange(here, other)
    waiter.join(10)
    assert seen == [True]
