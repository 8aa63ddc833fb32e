from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from perdure.folder import stage
from perdure.format.manifest import Manifest
from perdure.format.names import ADAPTER_CONFIG, CONFIG, is_weights

ONE_FILE = {"model.safetensors": b"one", "config.json": b'{"model_type": "one"}', "tokenizer.json": b"one"}
SHARDS = {
    "model-00001-of-00002.safetensors": b"first",
    "model-00002-of-00002.safetensors": b"second",
    "model.safetensors.index.json": b"{}",
    "config.json": b'{"model_type": "two"}',
    "additional_chat_templates/tools.jinja": b"{{ x }}",
}
OTHERS = {"notes.md": b"my notes", "checkpoint-5/model.safetensors": b"of the Trainer", "runs/events": b"log"}


def save(folder: Path, files: Mapping[str, bytes]) -> Manifest:
    with stage(folder) as staged:
        for name, data in files.items():
            staged.write(name, data)
        return staged.commit("model", stale=lambda name: is_weights(name) or name in (CONFIG, ADAPTER_CONFIG))


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the manifest, hidden ones included."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "perdure.json"
    }
