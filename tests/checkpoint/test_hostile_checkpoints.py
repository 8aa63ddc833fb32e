"""Checkpoints made to harm: their digests are right, for whoever made them computed them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

import perdure
from perdure.format.manifest import FileEntry, Manifest, read_manifest
from perdure.io.digest import as_text, digest_bytes

DOCUMENT = "training_state/optimizer.json"


def forge(checkpoint: Path, name: str, data: bytes, tensors: Mapping[str, str] | None = None) -> None:
    """Replace a file and have the manifest say that it has always been so."""
    (checkpoint / name).write_bytes(data)
    manifest = read_manifest(checkpoint)
    entry = FileEntry(size=len(data), digest=as_text(digest_bytes(data)), tensors=tensors or {})
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
    with perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 2
    assert run.values() == {2.0}


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


def header_of(entries: str) -> bytes:
    text = entries.encode()
    return len(text).to_bytes(8, "little") + text


FLOATS = '{"dtype": "F32", "shape": [2], "data_offsets": [%d, %d]}'
HEADERS: dict[str, bytes] = {
    "overlapping": header_of(f'{{"0": {FLOATS % (0, 8)}, "1": {FLOATS % (4, 12)}}}') + bytes(12),
    "with a hole": header_of(f'{{"0": {FLOATS % (0, 8)}, "1": {FLOATS % (16, 24)}}}') + bytes(24),
    "beyond the file": header_of(f'{{"0": {FLOATS % (2**60, 2**60 + 8)}}}') + bytes(8),
    "going backwards": header_of(f'{{"0": {FLOATS % (8, 0)}}}') + bytes(8),
    "twice": header_of(f'{{"0": {FLOATS % (0, 8)}, "0": {FLOATS % (0, 8)}}}') + bytes(8),
    "a shape that overflows": header_of('{"0": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": '
                                        '[0, 0]}}'),
    "many dimensions": header_of('{"0": {"dtype": "F32", "shape": [' + "9," * 100_000 + '9], "data_offsets": [0, 8]}}'),
    "a huge number": header_of('{"0": {"dtype": "F32", "shape": [' + "9" * 5000 + '], "data_offsets": [0, 8]}}'),
    "no number": header_of('{"0": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}'),
    "a bomb of maps": header_of('{"a":' * 200_000 + "0" + "}" * 200_000),
    "a header as long as can be": (2**63 - 1).to_bytes(8, "little") + bytes(100),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("how", HEADERS)
def test_a_forged_header_is_refused(how: str, new_run: Callable[..., Any], three: Path) -> None:
    newest, name = three / "checkpoint-3", "model.safetensors"
    forge(newest, name, HEADERS[how], tensors=read_manifest(newest).files[name].tensors)
    run = new_run()
    with bounded_memory(), perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(run.state) == 2
        assert not perdure.verify(newest).ok
        with pytest.raises((perdure.Corrupt, perdure.InvalidInput)):
            perdure.export(newest, three.parent / "out")
    assert run.values() == {2.0}


MANIFESTS: dict[str, bytes] = {
    "a bomb of lists": b"[" * 1_000_000,
    "a bomb of maps": b'{"format": "perdure", "version": 1, "files": ' + b'{"a":' * 300_000 + b"0" + b"}" * 300_001,
    "a huge number": b'{"format": "perdure", "version": 1, "kind": "checkpoint", "files": {}, "step": '
                     + b"9" * 100_000 + b"}",
    "a name twice": b'{"format": "perdure", "format": "perdure", "version": 1, "kind": "checkpoint", "files": {}}',
    "no number": b'{"format": "perdure", "version": 1, "kind": "checkpoint", "files": {}, "step": NaN}',
    "no text": b"\xff\xfe" * 100,
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("how", MANIFESTS)
def test_a_forged_manifest_is_refused(how: str, new_run: Callable[..., Any], three: Path) -> None:
    newest = three / "checkpoint-3"
    (newest / "perdure.json").write_bytes(MANIFESTS[how])
    with bounded_memory(), perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(new_run().state) == 2
        with pytest.raises(perdure.Corrupt):
            perdure.verify(newest)


@pytest.mark.parametrize("name", ["perdure.json", "model.safetensors", DOCUMENT])
@pytest.mark.parametrize("what", ["/dev/zero", "a pipe", "itself", "elsewhere"])
def test_a_link_to_something_else_is_refused_at_once(
    name: str, what: str, new_run: Callable[..., Any], three: Path
) -> None:
    path = three / "checkpoint-3" / name
    path.unlink()
    if what == "a pipe":
        os.mkfifo(three / "pipe")
        path.symlink_to(three / "pipe")
    else:
        (three.parent / "elsewhere").write_bytes(b"secret")
        path.symlink_to({"itself": path, "elsewhere": three.parent / "elsewhere"}.get(what, Path(what)))
    with bounded_memory(), perdure.Checkpointer(three) as ckpt:
        assert ckpt.restore(new_run().state) == 2
        try:
            assert not perdure.verify(three / "checkpoint-3").ok
        except perdure.PerdureError as error:
            assert name == "perdure.json"
            assert "secret" not in str(error)


@contextmanager
def bounded_memory(limit: int = 150 * 2**20) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


class Everything:
    """A run with components of every kind, whose documents are to be forged."""

    def __init__(self) -> None:
        self.model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.loader = DataLoader(TensorDataset(torch.rand(8, 2)), batch_size=4, shuffle=True)
        self.state = perdure.State(
            model=self.model, optimizer=self.optimizer, scaler=torch.amp.GradScaler("cpu"), loader=self.loader,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 9),
        )  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    everything, folder = Everything(), tmp_path_factory.mktemp("fuzzed") / "run"
    (batch,) = next(iter(everything.loader))
    everything.model(batch).sum().backward()
    everything.optimizer.step()
    with perdure.Checkpointer(folder) as ckpt:
        ckpt.save(1, everything.state, force=True)
    return folder


TAGS = st.sampled_from(["tensor", "array", "scalar", "tuple", "dict", "ordered", "counter", "int", "float", "bytes",
                        "complex", "dtype", "device", "size", "set", "os.system"])  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        | st.fixed_dictionaries({"$": TAGS}, optional={"items": inner, "name": inner, "hex": inner, "bits": inner})
    ),
    max_leaves=6,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(inner, (*path, key))


def replaced(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = replaced(node[path[0]], path[1:], value)
    return copy


@settings(max_examples=300)
@given(data=st.data())
def test_any_document_restores_or_is_refused(data: Any, fuzzed: Path) -> None:
    checkpoint = fuzzed / "checkpoint-1"
    name = data.draw(st.sampled_from(["model", "optimizer", "scaler", "loader", "scheduler", "rng"]))
    path = f"training_state/{name}.json"
    whole, manifest = (checkpoint / path).read_bytes(), (checkpoint / "perdure.json").read_bytes()
    document = json.loads(whole)
    shallow = [place for place in places(document) if len(place) < 7]
    forged = replaced(document, data.draw(st.sampled_from(shallow)), data.draw(VALUES))
    everything = Everything()
    try:
        forge(checkpoint, path, json.dumps(forged).encode())
        with perdure.Checkpointer(fuzzed) as ckpt, suppress(perdure.Corrupt, perdure.StateMismatch):
            ckpt.restore(everything.state)
    finally:
        (checkpoint / path).write_bytes(whole)
        (checkpoint / "perdure.json").write_bytes(manifest)


def test_a_place_beyond_all_data_is_its_end(fuzzed: Path, tmp_path: Path) -> None:
    shutil.copytree(fuzzed, tmp_path / "run")
    path = "training_state/loader.json"
    document = json.loads((tmp_path / "run" / "checkpoint-1" / path).read_bytes())
    assert document["state"]["taken"] == 1
    document["state"]["taken"] = 10**15
    document["state"]["begin"]["counters"]["loader"] = {"batch_size": 7, "dataset": 7}
    forge(tmp_path / "run" / "checkpoint-1", path, json.dumps(document).encode())
    everything = Everything()
    with perdure.Checkpointer(tmp_path / "run") as ckpt:
        assert ckpt.restore(everything.state) == 1
    assert len(list(everything.loader)) == 2, "the next epoch, and nothing of the loader was overwritten"
