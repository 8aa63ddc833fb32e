"""Real trainers on tiny random models; nothing is downloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["CI"] = "1"

import pytest
from datasets import Dataset
from local_hub import TOKEN
from tiny_models import make_model, make_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from perdure.hub.server import HubServer

_GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.jsonl"
_TEXT = [(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.") for a in range(6) for b in range(6)]


@pytest.fixture(scope="session")
def questions() -> list[tuple[str, str]]:
    """Question and answer pairs: GSM8K where it lies beside the checkout, sums otherwise."""
    if not _GSM8K.exists():
        return _TEXT
    lines = _GSM8K.read_text(encoding="utf-8").splitlines()[:36]
    return [(row["question"], row["answer"]) for row in map(json.loads, lines)]


@pytest.fixture(scope="session")
def tokenizer(questions: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    return make_tokenizer([text for pair in questions for text in pair])


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return make_model(tokenizer)


@pytest.fixture(scope="session")
def chats(questions: list[tuple[str, str]]) -> Dataset:
    return Dataset.from_list([
        {"prompt": [{"role": "user", "content": q[:60]}], "completion": [{"role": "assistant", "content": a[:60]}]}
        for q, a in questions[:8]
    ])  # fmt: skip


@pytest.fixture
def arguments(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Arguments that all trainers share: two quick steps on the CPU, reports to nobody."""

    def make(**changes: Any) -> dict[str, Any]:
        return {
            "output_dir": str(tmp_path / "out"),
            "max_steps": 2,
            "per_device_train_batch_size": 2,
            "per_device_eval_batch_size": 2,
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_steps": 1,
            "disable_tqdm": True,
            "learning_rate": 1e-3,
            **changes,
        }

    return make


@pytest.fixture
def sft(
    tokenizer: PreTrainedTokenizerFast, chats: Dataset, arguments: Callable[..., dict[str, Any]]
) -> Callable[..., Any]:
    """A trained SFTTrainer."""
    from trl import SFTConfig, SFTTrainer

    def make(model: Any, *, eval_set: bool = False, train: bool = True, peft: Any = None, **changes: Any) -> Any:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**arguments(max_length=64, **changes)),
            train_dataset=chats,
            eval_dataset=chats if eval_set else None,
            processing_class=tokenizer,
            peft_config=peft,
        )
        if train:
            trainer.train()
        return trainer

    return make


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub"), user="me", token=TOKEN) as server:
        yield server
