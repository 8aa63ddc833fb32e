"""What goes wrong costs nothing: the former folder is whole, nothing is left behind, the next save works."""

from __future__ import annotations

import errno
import logging
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from small import contents, leftovers, llama, python, tokenizer

import perdure

can_mount = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with a saved model in it."""
    return perdure.save_model(llama(seed=1), tmp_path / "out", tokenizer=tokenizer()).path


def test_a_file_size_limit_in_the_middle(tmp_path: Path) -> None:
    code = """
import resource, perdure
from pathlib import Path
from small import contents, leftovers, llama, tokenizer
out, tok = Path(sys.argv[1]), tokenizer()
perdure.save_model(llama(seed=1), out, tokenizer=tok)
before = contents(out)
for limit in (100, 4_000, 12_000, 20_000):
    for options in ({}, {"safe_serialization": False}, {"max_shard_size": 21_000}):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            perdure.save_model(llama(seed=2), out, tokenizer=tok, **options)
        except perdure.SaveFailed as error:
            print(error.message)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert contents(out) == before, (limit, options)
        assert leftovers(out) == []
assert perdure.verify(perdure.save_model(llama(seed=3), out, tokenizer=tok).path).ok
assert leftovers(out) == []
"""
    run = python(code, tmp_path / "out")
    assert run.returncode == 0, run.stderr
    messages = run.stdout.splitlines()
    assert len(messages) == 12
    for message in messages:
        assert message.startswith(f"Saving into {tmp_path}/out failed: ")
        assert message.endswith(f"What was in {tmp_path}/out before is whole; nothing of this save was kept.")


@pytest.mark.skipif(not can_mount, reason="waits for the right to mount a filesystem")
def test_a_full_disk_in_the_middle(tmp_path: Path) -> None:
    """A filesystem of its own with some kB left, in a mount namespace that ends with the process."""
    code = """
import os, subprocess, perdure
from pathlib import Path
from small import contents, leftovers, llama, tokenizer
disk, tok = Path(sys.argv[1]), tokenizer()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
out = disk / "out"
perdure.save_model(llama(seed=1), out)
before = contents(out)
left = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
for free in (0, 4, 16, 28, 40, 52):
    for safe in (True, False):
        (disk / "other").write_bytes(bytes(left - free * 1024))
        try:
            perdure.save_model(llama(seed=2), out, tokenizer=tok, safe_serialization=safe)
        except perdure.SaveFailed as error:
            print(error.message)
        assert contents(out) == before and perdure.verify(out).ok, (free, safe)
        assert leftovers(out) == []
        (disk / "other").unlink()
assert perdure.verify(perdure.save_model(llama(seed=3), out).path).ok
assert leftovers(out) == []
"""
    disk = tmp_path / "disk"
    disk.mkdir()
    run = python(code, disk, through=["unshare", "-m"])
    assert run.returncode == 0, run.stderr
    messages = run.stdout.splitlines()
    assert len(messages) == 12
    for message in messages:
        assert message.startswith(f"Saving into {disk}/out failed: ")
        assert "No space left on device" in message or "is the disk full?" in message


def test_a_folder_that_cannot_be_written() -> None:
    """By a user without the rights of root, who may write anywhere."""
    code = """
import os, perdure
from pathlib import Path
from small import contents, leftovers, llama
place, model = Path(sys.argv[1]), llama(seed=2)
perdure.save_model(llama(seed=1), place / "out")
before = contents(place)
(place / "out").chmod(0o555), place.chmod(0o555)
if os.geteuid() == 0:
    os.seteuid(65534)
for name in ("out", "new", "closed/new"):
    try:
        perdure.save_model(model, place / name)
    except perdure.SaveFailed as error:
        print(error.message)
os.seteuid(os.getuid())
(place / "out").chmod(0o755), place.chmod(0o755)
assert contents(place) == before
assert leftovers(place / "out") == []
assert perdure.verify(perdure.save_model(model, place / "out").path).ok
"""
    with tempfile.TemporaryDirectory() as place:  # pytest's own are closed to other users
        Path(place).chmod(0o755)
        (Path(place) / "closed").mkdir(mode=0o000)
        run = python(code, place)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        f"Saving into {place}/{name} failed: Permission denied. {old}; nothing of this save was kept."
        for name, old in (
            ("out", f"What was in {place}/out before is whole"),
            ("new", "Nothing was there before"),
            ("closed/new", "Nothing was there before"),
        )
    ]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(perdure.InvalidInput, match="is not a folder"):
        perdure.save_model(llama(), tmp_path / "file")
    with pytest.raises(perdure.SaveFailed, match="Saving into"):
        perdure.save_model(llama(), tmp_path / "file/out")
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_folder_where_a_file_must_go(out: Path) -> None:
    (out / "chat_template.jinja").unlink()
    (out / "chat_template.jinja").mkdir()
    (out / "chat_template.jinja/notes.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(
        perdure.InvalidInput, match=r"chat_template\.jinja is a folder where a file of the save must go"
    ):
        perdure.save_model(llama(seed=2), out, tokenizer=tokenizer())
    assert contents(out) == before
    assert leftovers(out) == []


def test_a_model_without_data(out: Path) -> None:
    before = contents(out)
    with torch.device("meta"):
        model = llama(seed=2)
    with pytest.raises(perdure.InvalidInput, match=r"meta device and have no data, model\.embed_tokens\.weight"):
        perdure.save_model(model, out)
    assert contents(out) == before
    assert leftovers(out) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_values_that_are_not_finite_are_saved_and_told(
    dtype: torch.dtype, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weight = torch.zeros(4, 2)
    weight[0, 0] = float("nan")
    if dtype is not torch.float8_e4m3fn:  # that type has no infinity
        weight[1:3, 1] = float("inf")
    model = torch.nn.Linear(2, 4, bias=False)
    model.weight = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
    with caplog.at_level(logging.WARNING, logger="perdure"):
        saved = perdure.save_model(model, tmp_path / "out")
    found = "1 NaN" if dtype is torch.float8_e4m3fn else "1 NaN and 2 infinite"
    assert saved.warnings == (f"weight has {found} of 8 values",)
    assert caplog.messages == [f"{saved.path}: {saved.warnings[0]}"]
    assert perdure.verify(saved.path).ok


def test_generation_settings_without_effect_are_removed_and_told(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    model = llama()
    model.generation_config.temperature = 0.5  # beside do_sample=False: save_pretrained refuses it
    saved = perdure.save_model(model, tmp_path / "out")
    assert len(saved.warnings) == 1
    assert "removed settings that had no effect: temperature=0.5" in saved.warnings[0]
    assert GenerationConfig.from_pretrained(saved.path).temperature != 0.5
    assert model.generation_config.temperature == 0.5


def test_a_generation_config_beyond_repair_is_written_as_it_is(tmp_path: Path) -> None:
    model = llama()
    model.generation_config.num_beams = 1
    model.generation_config.num_return_sequences = 4  # impossible with one greedy beam
    saved = perdure.save_model(model, tmp_path / "out")
    assert len(saved.warnings) == 1
    assert "generation_config.json is not valid" in saved.warnings[0]
    assert "it was written as it is" in saved.warnings[0]
    assert b'"num_return_sequences": 4' in (saved.path / "generation_config.json").read_bytes()
    assert {"model.safetensors", "config.json"} <= set(saved.files)


class BrokenTokenizer:
    """Writes half of its files, and fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "vocab.json").write_text("{}")
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("no vocabulary"), FileNotFoundError(errno.ENOENT, "gone", "/mnt/spiece.model")], ids=repr
)
def test_a_tokenizer_that_fails_never_costs_the_weights(error: Exception, tmp_path: Path) -> None:
    saved = perdure.save_model(llama(), tmp_path / "out", tokenizer=BrokenTokenizer(error))
    assert len(saved.warnings) == 1
    assert "the tokenizer was not saved" in saved.warnings[0]
    assert set(saved.files) == {"model.safetensors", "config.json", "generation_config.json"}


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), Exception("No space left on device (os error 28)")],
    ids=repr,
)
def test_a_disk_that_is_full_under_the_tokenizer_fails_the_save(error: Exception, out: Path) -> None:
    before = contents(out)
    with pytest.raises(perdure.SaveFailed, match="No space left on device"):
        perdure.save_model(llama(seed=2), out, tokenizer=BrokenTokenizer(error))
    assert contents(out) == before
    assert leftovers(out) == []


@pytest.mark.parametrize("name", ["../evil", "{parent}/evil", "", "perdure.json", "model.safetensors", "a//b"])
def test_extra_files_stay_in_the_folder(name: str, out: Path) -> None:
    before = contents(out.parent)
    with pytest.raises(perdure.InvalidInput):
        perdure.save_model(llama(seed=2), out, extra_files={name.format(parent=out.parent): b"x"})
    assert contents(out.parent) == before


@pytest.mark.parametrize("size", [0, -1, "5 parsecs", "", 1.5, True])
def test_a_shard_size_that_is_none(size: Any, tmp_path: Path) -> None:
    with pytest.raises(perdure.InvalidInput, match="is not a size"):
        perdure.save_model(llama(), tmp_path / "out", max_shard_size=size)
    assert list(tmp_path.iterdir()) == []
