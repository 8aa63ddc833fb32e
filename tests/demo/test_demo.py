"""`perdure demo` as a person runs it: a process of its own, the whole road, and the commands it prints."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure import Facts

PERDURE = [sys.executable, "-m", "perdure"]
PATIENCE = 280  # seconds, on a machine that is busy with other tests


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a place")  # with a space: printed commands must quote it


@pytest.fixture(scope="module")
def demo(place: Path) -> dict[str, Any]:
    """One short demo: too short to learn much, but it goes the whole road."""
    settings = {"HF_TOKEN": "a-persons-own", "HF_HUB_OFFLINE": "1", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = run([*PERDURE, "demo", "--dir", "my demo", "--epochs", "1", "--json"], place, **settings)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "6/6" in done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert Path(summary["hub"]["token_file"]).read_text().strip() not in done.stdout + done.stderr
    return summary


def test_it_goes_the_whole_road(demo: dict[str, Any], place: Path) -> None:
    model = Path(demo["model"])
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "perdure.json"} <= {
        path.name for path in model.iterdir()
    }
    receipt = demo["receipt"]
    assert receipt["private"]
    assert receipt["tag"] == "v0.1.0"
    assert len(receipt["commit"]) == 40
    assert demo["accuracy"]["before"] == 0.0
    results, config = (json.loads((model / name).read_text()) for name in ("all_results.json", "config.json"))
    assert results["train_loss"] < math.log(config["vocab_size"]), "it has learned no more than guessing would give"
    assert not demo["answer"]["used_perdure"]
    assert set(demo["seconds"]) == {"questions", "model", "train", "resume", "finish", "pull"}


def test_it_kills_its_training_and_resumes_it_exactly(demo: dict[str, Any]) -> None:
    found = demo["interruption"]
    steps = len(found["losses"])
    assert steps / 2 <= found["killed_at"] < steps
    assert 0 < found["resumed_from"] <= found["killed_at"]
    kept = sorted(path.name for path in Path(demo["model"]).glob("checkpoint-*"))
    assert f"checkpoint-{steps}" in kept
    assert len(kept) == 2


def test_who_does_what_its_card_says_comes_to_the_same_losses(demo: dict[str, Any], tmp_path: Path) -> None:
    """Of the command on the card, the training alone; PERDURE_WHOLE_DEMO=1 types it as it stands."""
    model = Path(demo["model"])
    command = (model / "README.md").read_text().split("## How to reproduce")[1].split("```bash\n")[1].split("\n")[0]
    assert command == "python -m perdure demo --dir 'my demo' --epochs 1 --json"
    words = shlex.split(command)
    said = Facts.from_json((model / "card_facts.json").read_bytes())
    assert said.training is not None and said.training.hyperparameters["seed"] == 0
    if os.environ.get("PERDURE_WHOLE_DEMO"):
        done = run([sys.executable, *words[1:]], tmp_path)
        assert done.returncode == 0, done.stderr
        found = Facts.from_json((tmp_path / "my demo" / "model" / "card_facts.json").read_bytes())
        assert found.training is not None and found.training.history["loss"] == said.training.history["loss"]
        assert found.training.results == said.training.results
        assert (found.datasets, found.versions) == (said.datasets, said.versions)
        return
    epochs = words[words.index("--epochs") + 1]
    done = run([sys.executable, "-m", "perdure.demo.train", str(tmp_path / "again"), epochs], tmp_path)
    assert done.returncode == 0, done.stderr
    *steps, _ = map(json.loads, done.stdout.splitlines())
    assert [(told["step"], told["loss"]) for told in steps] == list(said.training.history["loss"])


def test_the_commands_it_prints_work_afterwards(demo: dict[str, Any], place: Path) -> None:
    verify, serve, export, ask, push = demo["next"]
    assert run(shlex.split(verify), place).returncode == 0
    with subprocess.Popen(
        shlex.split(serve, comments=True), cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            assert demo["hub"]["url"] in server.stdout.readline()
            done = run(
                ["bash", "-ec", f"{export}\n{ask}\n{push}"], place, HF_HOME=str(place / "home"), HF_HUB_OFFLINE="0"
            )
        finally:
            server.terminate()
    assert done.returncode == 0, done.stderr
    assert "What does signal SIGKILL mean?" in done.stdout
    assert "demo/a-copy" in done.stdout


def test_help_shows_examples() -> None:
    done = run([*PERDURE, "demo", "--help"], Path.cwd())
    assert done.returncode == 0
    assert "Examples:" in done.stdout


def test_a_folder_of_others_is_refused_before_anything_is_imported(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = run([*PERDURE, "demo", "--dir", str(tmp_path)], tmp_path)
    assert done.returncode == 2
    assert f"--dir {tmp_path}-2" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_ctrl_c_stops_cleanly_and_the_folder_can_be_used_again(tmp_path: Path) -> None:
    command = [*PERDURE, "demo", "--dir", "demo", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "answers exactly" in line:  # the libraries are loaded, training is about to begin
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, "".join(seen) + err
    assert "Traceback" not in err
    assert out == ""
    assert (tmp_path / "demo" / "perdure-demo.json").exists()
    assert not (tmp_path / "demo" / "model" / "model.safetensors").exists()
