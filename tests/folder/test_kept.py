"""What is brought in several goes: whoever is interrupted leaves it to the next, and the folder is old or new."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from folders import ONE_FILE, OTHERS, SHARDS, content, put, save
from test_crash import run_until

import perdure
from perdure.errors import InvalidInput, SaveFailed
from perdure.folder import recover, stage
from perdure.folder.kept import stage_kept
from perdure.format.manifest import read_manifest
from perdure.format.names import MANIFEST, is_weights


def bring(out: Path, saved: Path, key: str = "a") -> None:
    """Copy a saved folder's files, but for those that were brought before."""
    with stage_kept(out, key) as staged:
        staged.keep_only(set(read_manifest(saved).files))
        for name in (*read_manifest(saved).files, MANIFEST):
            if not (staged.path / name).exists():
                (staged.path / name).parent.mkdir(exist_ok=True)
                (staged.path / name).write_bytes((saved / name).read_bytes())
        staged.place(stale=is_weights)


@pytest.mark.parametrize("shared", [False, True])
def test_killed_anywhere_a_folder_is_old_or_new_and_the_next_goes_on(tmp_path: Path, *, shared: bool) -> None:
    out, saved = tmp_path / "out", tmp_path / "saved"
    save(saved, SHARDS)
    survived, kill_at = False, 0
    while not survived:
        kill_at += 1
        save(out, ONE_FILE)
        if shared:
            put(out, OTHERS)
        survived = run_until(kill_at, lambda: bring(out, saved))
        if not shared:
            assert content(out) in (ONE_FILE, SHARDS)
        bring(out, saved)
        assert perdure.verify(out).ok and set(SHARDS) <= set(content(out))
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert kill_at > 15


def test_what_was_brought_stays_for_the_same_and_for_nobody_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(SaveFailed, match="what came so far is kept in"), stage_kept(out, "a") as staged:
            assert (staged.path / "half").exists() == (_ == 1)
            (staged.path / "half").write_text("much")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    recover(out)
    with stage(out) as other:  # neither collects it
        other.write("a", b"a")
        other.commit("model", stale=is_weights)
    with stage_kept(out, "a") as staged:
        assert (staged.path / "half").exists()
        with pytest.raises(InvalidInput, match="Another process"), stage_kept(out, "b"):
            pass
    with stage_kept(out, "b") as staged:
        assert list(staged.path.iterdir()) == []
