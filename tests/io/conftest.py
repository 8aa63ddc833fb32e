from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Whatever went wrong, no descriptor is left open and no thread at work."""
    before = open_files()
    yield
    for thread in threading.enumerate():
        if thread.name == "perdure-io":  # done with its work, if not gone yet
            thread.join(10)
            assert not thread.is_alive()
    assert open_files() <= before


def open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
