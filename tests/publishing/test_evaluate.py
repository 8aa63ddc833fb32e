"""Published models are measured by others' programs, of which a stand-in takes the place here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import perdure
from perdure.cli import evaluate
from perdure.errors import InvalidInput, MissingDependency, NotFound
from publishing import Hub, save_folder

# It looks at its arguments as lm_eval and lighteval do, and writes a file where and as they do.
STAND_IN = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
output = Path(words[words.index("--output_path" if "--output_path" in words else "--output-dir") + 1])
model = next(word for word in words if word.startswith(("pretrained=", "model_name=")))
print("it says much")
if "--fail" in words:
    sys.exit(3)
if "--nothing" not in words:
    folder = output / "me__a"
    folder.mkdir()
    metrics = {{"exact_match,strict-match": 0.5, "acc,none": 0.25, "acc_stderr,none": 0.1}}
    results = {{"gsm8k": {{"alias": "gsm8k", **metrics}}}}
    (folder / "results_2026-11-21T10-00-00.json").write_text(json.dumps({{"results": results}}))
Path(os.environ["SEEN"]).write_text(json.dumps([words, model, os.environ.get("HF_ENDPOINT")]))
"""
FOUND = {"gsm8k/exact_match,strict-match": 0.5, "gsm8k/acc": 0.25}


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("lm_eval", "lighteval"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(STAND_IN)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setattr("sys.stdout", sys.__stdout__)
    monkeypatch.setattr("sys.stderr", sys.__stderr__)
    return tmp_path / "seen"


@pytest.mark.parametrize(("tool", "key"), [("lm-eval", "pretrained"), ("lighteval", "model_name")])
def test_the_program_is_told_what_to_measure_and_its_results_come_back(seen: Path, tool: str, key: str) -> None:
    found = perdure.evaluate(
        "me/a", ["gsm8k"], revision="r-1", tool=tool, arguments=["--limit", "$(x); 5"], endpoint="http://127.0.0.1:9"
    )
    assert found == FOUND
    words, model, endpoint = json.loads(seen.read_text())
    assert words[-2:] == ["--limit", "$(x); 5"] and "gsm8k" in words
    assert model == f"{key}=me/a,revision=r-1" and endpoint == "http://127.0.0.1:9"


def test_the_script_for_slurm_is_one_that_bash_reads() -> None:
    script = CliRunner().invoke(evaluate.command, ["sbatch"], catch_exceptions=False).output
    assert script.startswith("#!/bin/bash\n") and "\n#SBATCH --time=" in script and "perdure evaluate lm-eval" in script
    subprocess.run(["bash", "-n"], input=script, text=True, timeout=60, check=True)


def test_what_goes_wrong_is_told(seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="ended with 3"):
        perdure.evaluate("me/a", "gsm8k", arguments=["--fail"])
    with pytest.raises(NotFound, match="left no results"):
        perdure.evaluate("me/a", "gsm8k", arguments=["--nothing"])
    for repo, tasks, revision in (
        ("me/a,trust_remote_code=True", "gsm8k", "r"), ("me/a", "--fail", "r"), ("me/a", "gsm8k", "r,x=1"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            perdure.evaluate(repo, tasks, revision=revision)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingDependency) as caught:
        perdure.evaluate("me/a", "gsm8k")
    assert "pip install 'lm_eval[hf]'" in caught.value.hint


def test_after_a_push_it_needs_no_name_and_by_hand_it_writes_the_card(seen: Path, hub: Hub, tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path / "bin"), "SEEN": str(seen)}
    results = tmp_path / "results.json"
    told = {"PERDURE_REPO": "me/a", "PERDURE_REVISION": "r", "PERDURE_COMMIT": "c" * 40, "PERDURE_ENDPOINT": hub.url}
    after = hub.cli(
        "evaluate", "lm-eval", "gsm8k", PERDURE_RESULTS=str(results), **told, **environment
    )  # fmt: skip
    assert after.code == 0 and json.loads(results.read_text()) == after.document == FOUND
    assert json.loads(seen.read_text())[1] == f"pretrained=me/a,revision={'c' * 40}"

    files = {"config.json": b"{}", "model.safetensors": b"\x02\0\0\0\0\0\0\0{}"}
    assert hub.push(save_folder(tmp_path / "out", files), "me/evaluated").code == 0
    by_hand = hub.cli("evaluate", "lm-eval", "gsm8k", "me/evaluated@main", "--record", **environment)
    assert by_hand.code == 0, by_hand.messages
    assert "gsm8k/acc" in hub.read("me/evaluated", "README.md").decode()
    listed = hub.cli("revisions", "me/evaluated", "--metric", "gsm8k/acc").document
    assert listed[0]["score"] == 0.25 and listed[0]["best"]
