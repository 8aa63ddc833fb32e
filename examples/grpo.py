"""Reinforcement learning with GRPO on questions with one right answer, resumed exactly, generations included.

    python examples/grpo.py --model_name_or_path Qwen/Qwen3-0.6B --dataset_name openai/gsm8k --dataset_config main \
        --output_dir runs/grpo --save_steps 50 --num_generations 8

It takes every argument of `GRPOConfig`. The dataset has a `question` and an `answer` that ends with `#### 42`.
"""

import torch
from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer, ModelConfig, ScriptArguments, TrlParser

import perdure

Chat = list[dict[str, str]]


def as_prompt(row: dict[str, str]) -> dict[str, object]:
    """A row of the dataset as a conversation that the model is to continue, and the solution."""
    ask = f"{row['question']}\nEnd with the answer, behind ####."
    return {"prompt": [{"role": "user", "content": ask}], "solution": row["answer"].rpartition("####")[2].strip()}


def is_right(completions: list[Chat], solution: list[str], **_: object) -> list[float]:
    """1 for what ends with the solution, else 0."""
    said = [completion[-1]["content"].rpartition("####")[2].strip() for completion in completions]
    return [float(one == right) for one, right in zip(said, solution, strict=True)]


def is_short(completions: list[Chat], **_: object) -> list[float]:
    """Up to 0.1, less for each character."""
    return [0.1 / (1 + len(completion[-1]["content"]) / 1000) for completion in completions]


def main() -> None:
    """Train, or go on training; then save, describe and, if wanted, publish."""
    parser = TrlParser((ScriptArguments, GRPOConfig, ModelConfig))
    parser.set_defaults(use_cpu=not torch.accelerator.is_available())
    script, training, model = parser.parse_args_and_config()
    training.model_init_kwargs = {"revision": model.model_revision, "dtype": model.dtype}
    dataset = load_dataset(script.dataset_name, name=script.dataset_config, split=script.dataset_train_split)

    trainer = GRPOTrainer(
        model=model.model_name_or_path,
        reward_funcs=[is_right, is_short],
        args=training,
        train_dataset=dataset.map(as_prompt, remove_columns=dataset.column_names),
    )
    run = perdure.attach(trainer)
    trainer.train(resume_from_checkpoint=True)
    if run.stop_requested:
        return  # SIGTERM: a checkpoint is durable, and the next run goes on from it

    done = perdure.finish(trainer, dataset_name=script.dataset_name)
    print(done, *done.problems, sep="\n  ")


if __name__ == "__main__":
    main()
