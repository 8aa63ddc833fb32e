from __future__ import annotations

import pytest

from perdure.card.facts import BaseModel, Dataset, Evaluation, Facts, License, Weights
from perdure.card.training import Hardware, Method, Training


@pytest.fixture(scope="session")  # frozen
def facts() -> Facts:
    """A model about which everything is known."""
    return Facts(
        name="my-model",
        repo="me/my-model",
        weights=Weights(
            architecture="Qwen2ForCausalLM", pipeline_tag="text-generation", chat=True, parameters=1_234_567
        ),
        bases=(BaseModel(id="Qwen/Qwen2-0.5B", revision="0a1b2c"),),
        datasets=(
            Dataset(id="openai/gsm8k"),
            Dataset(id="org/more"),
        ),
        tags=("trl", "dpo", "my-run"),
        license=License(id="apache-2.0"),
        languages=("en", "no"),
        training=Training(
            method=Method(name="DPO", library="TRL", title="Direct", arxiv="2305.18290", citation="@x{y}"),
            hyperparameters={"learning_rate": 2e-05, "bf16": True},
            steps=1000,
            results={"train_loss": 1.25},
            hardware=Hardware(name="GPU", count=2),
            logs={"Weights & Biases": "https://wandb.ai/me/run"},
        ),
        evaluation=(Evaluation(metrics={"eval_loss": 0.5}),),
        versions={"TRL": "1.16.0"},
    )
