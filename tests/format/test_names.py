"""One table says what a file of a model folder is; its answers never contradict each other."""

from __future__ import annotations

import pytest

from perdure.format.names import (
    belongs_to_model,
    holds_weights,
    is_read_by_loaders,
    is_tokenizer,
    is_training_state,
    is_weights,
)

LOADED = ["model.safetensors", "pytorch_model-00001-of-00002.bin", "model.safetensors.index.json", "config.json",
          "model.safetensors.index.fp16.json", "adapter_model.safetensors", "adapter_config.json", "tokenizer.json",
          "generation_config.json", "additional_chat_templates/tools.jinja", "consolidated.safetensors"]  # fmt: skip
PUBLISHED = ["README.md", "LICENSE", "modeling_mine.py", "all_results.json", "model.gguf", "model.onnx", "loss.png"]
STATE = ["training_args.bin", "training_args.pt", "trainer_state.json", "optimizer.pt", "optimizer_0.bin",
         "optimizer.safetensors", "scheduler.safetensors", "scaler.pt", "rng_state_0.pth", "events.out.tfevents.1",
         "events.out.tfevents.1.txt"]  # fmt: skip
NEITHER = [".env", ".hidden.json", "data.pkl", "checkpoint-5/model.safetensors", "additional_chat_templates/x.pkl",
           "additional_chat_templates/deep/x.jinja", "runs/config.json"]  # fmt: skip


@pytest.mark.parametrize("name", LOADED)
def test_what_loaders_read_belongs_to_the_model(name: str) -> None:
    assert is_read_by_loaders(name) and belongs_to_model(name) and not is_training_state(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_else_belongs_to_a_model(name: str) -> None:
    assert belongs_to_model(name) and not is_read_by_loaders(name) and not is_training_state(name)


@pytest.mark.parametrize("name", STATE)
def test_training_state_is_nothing_else(name: str) -> None:
    assert is_training_state(name)
    assert not any(of(name) for of in (belongs_to_model, is_read_by_loaders, holds_weights, is_weights, is_tokenizer))


@pytest.mark.parametrize("name", NEITHER)
def test_what_no_rule_knows_stays_out(name: str) -> None:
    assert not any(of(name) for of in (belongs_to_model, is_read_by_loaders, is_training_state, is_tokenizer))
