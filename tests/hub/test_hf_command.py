"""The unmodified `hf` command, of both generations of huggingface_hub."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hubs import CLIENTS, TOKEN

from perdure.hub.server import HubServer

Hf = Callable[..., str]


@pytest.fixture(params=["2", "1"])
def hf(request: pytest.FixtureRequest, server: HubServer, tmp_path: Path) -> Hf:
    """Run `hf …` in a home and a folder of its own; what it said."""
    command = Path(sys.executable).with_name("hf") if request.param == "2" else CLIENTS / "python-1" / "bin" / "hf"
    if not command.exists():
        pytest.skip("waits for the hf command of huggingface_hub 1.x: scripts/install-clients")
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env |= {
        "HF_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": server.url,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
    }

    def run(*args: str, fails: bool = False) -> str:
        done = subprocess.run(
            [command, *args], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=90, check=False
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, said
        return said

    return run


def test_a_session_at_the_shell(hf: Hf, request: pytest.FixtureRequest, server: HubServer, tmp_path: Path) -> None:
    generation = request.node.callspec.params["hf"]
    model, data = f"me/shell-{generation}", f"me/shell-data-{generation}"
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "w.bin").write_bytes(os.urandom(300_000))
    (folder / "sub" / "a.txt").write_text("text")

    assert "Not logged in" in hf("auth", "whoami", fails=True)
    hf("auth", "login", "--token", TOKEN)
    assert "me" in hf("auth", "whoami")
    hf("repos", "create", model, "--private")
    hf("repos", "create", model, "--private", "--exist-ok")
    assert "already created" in hf("repos", "create", model, fails=True)
    assert f"{server.url}/{model}" in hf("upload", model, "out", ".", "--commit-message", "first")
    hf("upload", model, "out/sub/a.txt", "b.txt")
    hf("upload", data, "out", "--repo-type", "dataset", "--private")
    hf("download", model, "--local-dir", "got", "--exclude", "b.txt")
    for path in ("w.bin", "sub/a.txt"):
        assert (tmp_path / "got" / path).read_bytes() == (folder / path).read_bytes()
    assert not (tmp_path / "got" / "b.txt").exists()
    assert "w.bin" in hf("download", data, "w.bin", "--repo-type", "dataset")
    if generation == "1":  # what is below has the same requests behind it
        return
    assert "shell-data" in hf("cache", "ls")
    assert "checksums match" in hf("cache", "verify", data, "--repo-type", "dataset")
    hf("repos", "tag", "create", model, "v1")
    assert "v1" in hf("repos", "tag", "list", model)
    hf("repos", "branch", "create", model, "dev")
    hf("upload", model, "out/sub/a.txt", "dev.txt", "--revision", "dev")
    hf("repos", "branch", "delete", model, "dev")
    hf("repos", "tag", "delete", model, "v1", "-y")
    hf("repos", "delete-files", model, "b.txt")
    hf("repos", "settings", model, "--public")
    assert model.split("/")[1] in hf("models", "ls", "--author", "me", "--format", "json")
    assert "a.txt" in hf("models", "info", model, "--format", "json")
    hf("repos", "move", model, f"{model}-moved")
    assert "storage" in hf("repos", "ls", "--format", "json")
    assert "b.txt" in hf("download", model, "b.txt", fails=True)
    hf("repos", "delete", f"{model}-moved", "-y")
    assert "not found" in hf("download", f"{model}-moved", fails=True).lower()
    hf("auth", "logout")
