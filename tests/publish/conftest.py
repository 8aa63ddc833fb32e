"""Small saved folders for the tests of publishing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as to_safetensors

from perdure.folder import stage
from perdure.format.names import is_weights

Save = Callable[..., Path]


def weights(seed: int = 0, size: int = 512) -> bytes:
    """A small safetensors file."""
    values = np.random.default_rng(seed).standard_normal((size, 64), dtype=np.float32)
    return to_safetensors({"embed.weight": values, "norm.weight": values[0]}, metadata={"format": "pt"})


def save_folder(folder: Path, files: Mapping[str, bytes] | None = None, *, kind: str = "model") -> Path:
    """What `save_model` leaves behind: files, and a manifest of them."""
    if files is None:
        files = {"model.safetensors": weights(), "config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}"}
    with stage(folder) as staged:
        for name, data in files.items():
            staged.write(name, data)
        staged.commit(kind, stale=is_weights)
    return folder


@pytest.fixture
def save() -> Save:
    """`save(folder, files=None, kind="model")`: save a small model."""
    return save_folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "out")
