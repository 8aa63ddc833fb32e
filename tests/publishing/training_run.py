"""A small training run whose checkpoints are pushed: `python training_run.py OUT REPO`, the token in `HF_TOKEN`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import perdure


def make_trainer(out: Path, *, seed: int = 0, **settings: Any) -> Trainer:
    """A trainer of a tiny model that saves after each second step."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=4096, **shape))  # large enough for the Hub's large files
    data = [{"input_ids": row, "labels": row} for row in torch.randint(4096, (16, 8))]
    given = {"max_steps": 8, "save_steps": 2, "save_total_limit": None, **settings}
    arguments = TrainingArguments(
        str(out), use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=2, seed=seed, **given
    )
    return Trainer(model, arguments, train_dataset=data)


def main() -> None:
    trainer = make_trainer(Path(sys.argv[1]))
    with perdure.attach(trainer, push_to=sys.argv[2]):
        trainer.train()
        perdure.finish(trainer, push_to_hub=False, wait=60)


if __name__ == "__main__":
    main()
