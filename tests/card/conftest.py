from __future__ import annotations

import pytest

from perdure.card.facts import BaseModel, Facts, Method, Training, Weights


@pytest.fixture
def facts() -> Facts:
    """A model about which everything is known."""
    return Facts(
        name="my-model",
        repo="me/my-model",
        weights=Weights(
            architecture="Qwen2ForCausalLM", pipeline_tag="text-generation", chat=True, parameters=1_234_567
        ),
        base=BaseModel(id="Qwen/Qwen2-0.5B", revision="0a1b2c"),
        datasets=("openai/gsm8k", "org/more"),
        tags=("trl", "dpo", "my-run"),
        license="apache-2.0",
        languages=("en", "no"),
        training=Training(
            method=Method(name="DPO", library="TRL", title="Direct", arxiv="2305.18290", citation="@x{y}"),
            hyperparameters={"learning_rate": 2e-05, "bf16": True},
            results={"train_loss": 1.25, "steps": 1000},
            hardware="2 × GPU",
            logs={"Weights & Biases": "https://wandb.ai/me/run"},
        ),
        evaluation={"eval_loss": 0.5},
        versions={"TRL": "1.16.0"},
    )
