"""Supervised fine-tuning that survives what happens to it: run it again, and it goes on where it was.

    python examples/sft.py --model_name_or_path Qwen/Qwen3-0.6B --dataset_name trl-lib/Capybara \
        --output_dir runs/sft --save_steps 200 --save_total_limit 3

It takes every argument of `SFTConfig`; `--push_to_hub --hub_model_id me/my-model` publishes the result, privately.
"""

import torch
from datasets import load_dataset
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser

import perdure


def main() -> None:
    """Train, or go on training; then save, describe and, if wanted, publish."""
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
    parser.set_defaults(use_cpu=not torch.accelerator.is_available())
    script, training, model = parser.parse_args_and_config()
    training.model_init_kwargs = {"revision": model.model_revision, "dtype": model.dtype}
    dataset = load_dataset(script.dataset_name, name=script.dataset_config)

    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=dataset[script.dataset_train_split],
        eval_dataset=dataset[script.dataset_test_split] if training.eval_strategy != "no" else None,
    )
    run = perdure.attach(trainer)  # its checkpoints are perdure's from here on
    trainer.train(resume_from_checkpoint=True)  # begins at zero when there is nothing to resume
    if run.stop_requested:
        return  # SIGTERM: a checkpoint is durable, and the next run goes on from it

    done = perdure.finish(trainer, dataset_name=script.dataset_name)
    print(done, *done.problems, sep="\n  ")


if __name__ == "__main__":
    main()
