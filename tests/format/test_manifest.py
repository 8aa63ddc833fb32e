from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import Corrupt, NotFound, UnsupportedFormat
from perdure.format.manifest import FileEntry, Manifest, decode, read_manifest
from perdure.io.digest import as_text, digest_bytes

DIGEST = as_text(digest_bytes(b"x"))
MANIFEST = Manifest(
    kind="model",
    files={
        "config.json": FileEntry(size=2, digest=DIGEST),
        "model.safetensors": FileEntry(size=9, digest=DIGEST, tensors={"Gewicht ä": DIGEST}),
    },
)
TEXT = MANIFEST.encode()


def test_round_trip() -> None:
    assert decode(TEXT) == MANIFEST
    assert MANIFEST.nbytes == 11


@given(st.integers(0, len(TEXT) * 8 - 1))
def test_every_flipped_bit_is_found(bit: int) -> None:
    flipped = bytearray(TEXT)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises((Corrupt, UnsupportedFormat)):
        decode(bytes(flipped))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(data)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../b", "", "a//b", ".", "a\\b", "a\0b", "x" * 2000])
def test_no_path_leaves_the_folder(name: str) -> None:
    text = Manifest(kind="model", files={name: FileEntry(size=1, digest=DIGEST)}).encode()
    with pytest.raises(Corrupt):
        decode(text)


def test_a_newer_version_says_so() -> None:
    document = {**json.loads(TEXT), "version": 99}
    with pytest.raises(UnsupportedFormat, match="pip install --upgrade"):
        decode(json.dumps(document).encode())


def test_a_json_bomb_is_refused() -> None:
    with pytest.raises(Corrupt):
        decode(b"[" * 500_000)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="never finished"):
        read_manifest(tmp_path)
    with pytest.raises(NotFound, match="not a folder"):
        read_manifest(tmp_path / "missing")
