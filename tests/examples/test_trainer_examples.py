"""The examples with a trainer run as their users run them, and go on where they were."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from safetensors.torch import load_file

import perdure
from perdure.demo.model import build_model, build_tokenizer
from perdure.demo.questions import pairs

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARED = (
    "--max_steps 4 --save_steps 2 --logging_steps 1 --per_device_train_batch_size 2 --learning_rate 1e-3 "
    "--report_to none --disable_tqdm True"
)
CASES = {
    "sft": ("", "model.safetensors"),
    "sft_lora": ("--lora_dropout 0.1", "adapter_model.safetensors"),
    "grpo": ("--num_generations 2 --max_completion_length 8 --steps_per_generation 4", "model.safetensors"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model and the data that the examples need."""
    folder = tmp_path_factory.mktemp("examples")
    learned = pairs()[:24]
    tokenizer = build_tokenizer(learned)
    build_model(tokenizer, seed=0).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = {
        "chats": [
            {
                "messages": [
                    {"role": "user", "content": pair.question},
                    {"role": "assistant", "content": pair.answer},
                ]
            }
            for pair in learned
        ],
        "questions": [{"question": pair.question, "answer": f"{pair.answer} #### 42"} for pair in learned],
    }
    for name, found in rows.items():
        (folder / name).mkdir()
        (folder / name / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return folder


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("example", CASES)
def test_it_trains_finishes_and_resumes_exactly(
    example: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, weights = CASES[example]
    data = "questions" if example == "grpo" else "chats"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def run(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        line = f"--model_name_or_path {place / 'model'} --dataset_name {place / data} --output_dir {tmp_path / name}"
        monkeypatch.setattr(sys, "argv", [example, *f"{line} {SHARED} {options}".split()])
        runpy.run_path(str(EXAMPLES / f"{example}.py"), run_name="__main__")
        state = json.loads((tmp_path / name / "checkpoint-4" / "trainer_state.json").read_bytes())
        return load_file(tmp_path / name / weights), state["log_history"]

    whole, log = run("whole")
    assert perdure.verify(tmp_path / "whole").ok
    # as it is after a crash at step 3
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    before = (tmp_path / "resumed" / "checkpoint-2" / "perdure.json").stat()
    resumed, log_resumed = run("resumed")
    after = (tmp_path / "resumed" / "checkpoint-2" / "perdure.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "it did not begin at zero"
    assert resumed.keys() == whole.keys()
    assert all(resumed[name].equal(tensor) for name, tensor in whole.items())
    assert [told(entry) for entry in log_resumed] == [told(entry) for entry in log]


def told(entry: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the clock."""
    return {name: value for name, value in entry.items() if "time" not in name and "per_second" not in name}


@pytest.mark.parametrize("example", CASES)
def test_it_is_short(example: str) -> None:
    assert (EXAMPLES / f"{example}.py").read_text().count("\n") < 80
