"""Files are known by the digests that a Hub gives, without fetching them."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from perdure.publishing.remote_file import RemoteFile, is_same


def test_ids_are_those_of_git_and_of_sha256(saved: Path, tmp_path: Path) -> None:
    file = saved / "model.safetensors"
    git = subprocess.run(["git", "hash-object", "--no-filters", file], capture_output=True, text=True, check=True)
    blob_id, data = git.stdout.strip(), file.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(file)
    for sha256 in (None, hashlib.sha256(data).hexdigest()):
        there = RemoteFile(size=len(data), sha256=sha256, blob_id=blob_id)
        assert there.matches(file) and there.matches(data) and there.matches(link) and is_same(file, there)
        assert not is_same(link, there) and not is_same(tmp_path, there) and not is_same(tmp_path / "none", there)
        for other in (data[:-1], b"x" + data[1:]):
            assert not there.matches(other)
