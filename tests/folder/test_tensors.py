from __future__ import annotations

import threading
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import perdure
from perdure.errors import SaveFailed
from perdure.folder import stage
from perdure.format.header import lay_out
from perdure.io.digest import CHUNK, as_text, digest_bytes

SHAPES = [("big", "U8", (2 * CHUNK + 5,)), ("none", "F32", (0, 3)), ("small", "U8", (7,)), ("wide", "F32", (3,))]
DATA = {"big": bytes(range(256)) * (CHUNK // 128) + b"12345", "none": b"", "small": b"1234567", "wide": b"abcd" * 3}


def test_tensors_are_made_late_and_once(tmp_path: Path) -> None:
    made: list[str] = []
    lock = threading.Lock()

    def read(name: str) -> memoryview:
        with lock:
            made.append(name)
        return memoryview(DATA[name])

    head, header = lay_out(SHAPES, {"format": "pt"})
    with stage(tmp_path / "out") as staged:
        staged.write_tensors("model.safetensors", head, header, read)
        manifest = staged.commit("module", stale=lambda name: False)
    assert sorted(made) == ["big", "small", "wide"]
    assert manifest.files["model.safetensors"].tensors == {
        name: as_text(digest_bytes(data)) for name, data in DATA.items()
    }
    assert {name: value.tobytes() for name, value in load_file(tmp_path / "out/model.safetensors").items()} == DATA
    assert perdure.verify(tmp_path / "out").ok


def test_a_tensor_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    head, header = lay_out(SHAPES, {})
    with pytest.raises(SaveFailed, match="small changed its size"), stage(tmp_path / "out") as staged:
        staged.write_tensors(
            "model.safetensors",
            head,
            header,
            lambda name: memoryview(DATA[name][:-1] if name == "small" else DATA[name]),
        )
    assert not list(tmp_path.iterdir())
