"""Checkpoints made to harm: their digests are right, for whoever made them computed them."""

from __future__ import annotations

import dataclasses
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.format.manifest import FileEntry, Manifest, read_manifest
from perdure.io.digest import as_text, digest_bytes

DOCUMENT = "training_state/optimizer.json"


def forge(checkpoint: Path, name: str, data: bytes) -> None:
    """Replace a file and have the manifest say that it has always been so."""
    (checkpoint / name).write_bytes(data)
    manifest = read_manifest(checkpoint)
    entry = FileEntry(size=len(data), digest=as_text(digest_bytes(data)))
    forged = dataclasses.replace(manifest, files={**manifest.files, name: entry})
    (checkpoint / "perdure.json").write_bytes(forged.encode())


def optimizer_of(checkpoint: Path) -> Any:
    return json.loads((checkpoint / DOCUMENT).read_bytes())


def with_state(checkpoint: Path, state: Any) -> bytes:
    return json.dumps({**optimizer_of(checkpoint), "state": state}).encode()


FORGERIES: dict[str, Callable[[Path], bytes]] = {
    "not JSON": lambda folder: b"\x80\x04]",
    "a bomb of lists": lambda folder: b"[" * 500_000,
    "a bomb in its place": lambda folder: (
        b'{"type": "Counting", "state": ' + b'{"a":' * 300_000 + b"0" + b"}" * 300_001
    ),
    "a number": lambda folder: b"7",
    "no state": lambda folder: b'{"type": "Counting"}',
    "no groups": lambda folder: with_state(folder, {}),
    "an unknown tag": lambda folder: with_state(
        folder, {**optimizer_of(folder)["state"], "x": {"$": "os.system", "items": ["true"]}}
    ),
    "tensors that are not there": lambda folder: with_state(
        folder, {**optimizer_of(folder)["state"], "x": {"$": "tensor", "name": "../../secret", "device": "cpu"}}
    ),
}


@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_document_is_refused_and_the_one_before_taken(
    how: str, new_run: Callable[..., Any], three: Path
) -> None:
    newest = three / "checkpoint-3"
    forge(newest, DOCUMENT, FORGERIES[how](newest))
    run = new_run()
    started = time.monotonic()
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 2
    assert run.values() == {2.0}
    assert time.monotonic() - started < 30


PLACES: dict[str, Any] = {
    "outside": {"0": ["0", 10**9]},
    "before": {"0": ["0", -4]},
    "of another": {"0": ["1"]},
    "no place": {"0": 3},
    "upon each other": {"1": ["0", 0]},
}


@pytest.mark.parametrize("how", PLACES)
def test_a_forged_place_writes_nowhere_else(how: str, new_run: Callable[..., Any], three: Path) -> None:
    newest = three / "checkpoint-3"
    document = json.loads((newest / "training_state/model.json").read_bytes())
    document["state"]["places"] = PLACES[how]
    forge(newest, "training_state/model.json", json.dumps(document).encode())
    run = new_run()
    with perdure.Checkpointer(three) as ckpt:
        try:
            assert ckpt.restore(run.state) == 2
        except perdure.StateMismatch:
            assert run.values() == {0.0}


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "training_state/../../x.json"])
def test_a_name_that_leads_out_is_refused(name: str, new_run: Callable[..., Any], three: Path) -> None:
    newest = three / "checkpoint-3"
    manifest = read_manifest(newest)
    forged = Manifest(
        kind="checkpoint", step=3, files={**manifest.files, name: FileEntry(size=1, digest=as_text(bytes(32)))}
    )
    (newest / "perdure.json").write_bytes(forged.encode())
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(new_run().state) == 2
        assert ckpt.restored is not None
        assert "not a path within a folder" in ckpt.restored.skipped[0].reason


def test_a_header_of_impossible_length_takes_no_memory(new_run: Callable[..., Any], three: Path) -> None:
    file = three / "checkpoint-3" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[:8] = (2**62).to_bytes(8, "little")
    file.write_bytes(data)
    run = new_run()
    tracemalloc.start()
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20
