"""What is sent is of one save, whatever is saved into the folder meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perdure.errors import NotFound
from perdure.io.locks import Lock, hold, release
from perdure.publishing import prepare
from publishing import save_folder, weights


def test_a_save_while_the_folder_is_read_is_what_goes_out(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = iter([{"model-00001-of-00001.safetensors": weights(1)}])
    verify = prepare.check.verify

    def verify_then_somebody_saves(folder: Path) -> object:
        found = verify(folder)
        for files in saves:
            save_folder(saved, files)
        return found

    monkeypatch.setattr(prepare.check, "verify", verify_then_somebody_saves)
    with prepare.prepared(saved, verify=True) as selection:
        assert set(selection.files) == {"model-00001-of-00001.safetensors", "perdure.json"}


def test_while_it_is_sent_nobody_replaces_it(saved: Path) -> None:
    with prepare.prepared(saved, verify=False):
        descriptor = os.open(saved, os.O_RDONLY)
        assert hold(descriptor) is Lock.BUSY
        release(descriptor)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a log")
    for name in ("none", "file"):
        with pytest.raises(NotFound), prepare.prepared(tmp_path / name, verify=True):
            pass


def test_what_is_allowed_and_not_found_is_told(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    with prepare.prepared(saved, verify=False, allow=["config.json:3:absolute-pth"]):
        assert "is no finding: config.json:3:absolute-pth" in caplog.text
