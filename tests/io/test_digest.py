from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from perdure.io.digest import CHUNK, Hasher, as_bytes, as_text, combine, digest_bytes, digest_file


def test_up_to_a_chunk_it_is_plain_blake3() -> None:
    for data in (b"", b"abc", bytes(CHUNK)):
        assert digest_bytes(data) == blake3(data).digest()


def test_beyond_a_chunk_it_is_the_documented_tree() -> None:
    data = bytes(range(256)) * (CHUNK // 256) + b"tail"
    root = blake3(derive_key_context="perdure 2026-11 tree digest")
    root.update(blake3(data[:CHUNK]).digest())
    root.update(blake3(data[CHUNK:]).digest())
    assert digest_bytes(data) == root.digest()


def test_a_short_file_cannot_pose_as_a_long_one() -> None:
    long = bytes(CHUNK + 1)
    leaves = blake3(long[:CHUNK]).digest() + blake3(long[CHUNK:]).digest()
    assert digest_bytes(leaves) != digest_bytes(long)


@given(st.lists(st.integers(0, CHUNK + 3), max_size=4))
def test_pieces_do_not_matter(sizes: list[int]) -> None:
    data = bytes(sum(sizes))
    hasher, start = Hasher(), 0
    for size in sizes:
        hasher.update(memoryview(data)[start : start + size])
        start += size
    assert hasher.digest() == digest_bytes(data)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * (CHUNK + 7))
    assert digest_file(tmp_path / "file") == (CHUNK + 7, digest_bytes(b"x" * (CHUNK + 7)))


def test_text_form_is_strict() -> None:
    digest = combine([b"a" * 32])
    assert as_bytes(as_text(digest)) == digest
    for wrong in ("", digest.hex(), "sha256:" + digest.hex(), as_text(digest)[:-2], as_text(digest).upper()):
        with pytest.raises(ValueError, match=r"not a BLAKE3 digest|non-hexadecimal"):
            as_bytes(wrong)
