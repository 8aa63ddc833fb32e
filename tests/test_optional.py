"""Without an optional library perdure imports, and what needs the library says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perdure._optional import install_line

# Stands in for an environment without the library, which cannot be had inside one that has it.
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import perdure
"""


def run_without(absent: set[str], code: str) -> subprocess.CompletedProcess[str]:
    script = WITHOUT.format(absent=absent) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("absent", "code", "extra"),
    [
        ({"torch"}, "perdure.save_model(object(), 'out')", "torch"),
        ({"huggingface_hub"}, "perdure.publish('.', 'me/model')", "hf"),
        ({"transformers", "trl"}, "perdure.cli.app.run(['demo'])", "all"),
        ({"starlette"}, "perdure.cli.app.run(['serve', '--dir', 'hub'])", "hub"),
    ],
)
def test_what_needs_a_library_names_the_install_line(absent: set[str], code: str, extra: str, tmp_path: Path) -> None:
    done = run_without(absent, f"import os, perdure.cli.app; os.chdir({str(tmp_path)!r}); {code}")
    assert done.returncode != 0
    assert install_line(extra) in done.stderr


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        (None, "pip install 'perdure[hub]'"),
        ('{"url": "https://example.org/p.whl"}', "pip install 'perdure[hub]'"),
        ('{"url": "file:///home/me/my%20clone", "dir_info": {}}', "pip install '/home/me/my clone[hub]'"),
        ('{"url": "file:///src", "dir_info": {"editable": true}}', "pip install -e '/src[hub]'"),
    ],
)
def test_the_install_line_names_where_perdure_came_from(
    origin: str | None, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "perdure-9.dist-info").mkdir()
    (tmp_path / "perdure-9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: perdure\nVersion: 9\n")
    if origin:
        (tmp_path / "perdure-9.dist-info/direct_url.json").write_text(origin)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert install_line("hub") == line


def test_a_plain_module_is_saved_and_verified_without_transformers(tmp_path: Path) -> None:
    code = (
        "import torch; saved = perdure.save_model(torch.nn.Linear(2, 2), "
        f"{str(tmp_path)!r} + '/out'); assert perdure.verify(saved.path).ok; print(saved.kind)"
    )
    done = run_without({"transformers", "peft", "trl", "huggingface_hub", "tokenizers"}, code)
    assert done.stdout.strip() == "module", done.stderr


def test_a_folder_is_verified_without_torch(tmp_path: Path) -> None:
    done = run_without({"torch", "transformers"}, f"perdure.verify({str(tmp_path)!r})")
    assert "NotFound" in done.stderr
    assert "torch" not in done.stderr


def test_a_library_that_is_there_but_broken_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "lz4.py").write_text("import a_part_that_is_not_there\n")
    code = "from perdure._optional import require; require('lz4', 'this')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a_part_that_is_not_there" in done.stderr
    assert "pip install" not in done.stderr
