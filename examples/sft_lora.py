"""Fine-tune an adapter, on a base in 4 bits if you like. Checkpoints hold the adapter only, and resume exactly.

    python examples/sft_lora.py --model_name_or_path Qwen/Qwen3-0.6B --dataset_name trl-lib/Capybara \
        --output_dir runs/lora --save_steps 200 --load_in_4bit

It takes every argument of `SFTConfig`, and of TRL's `ModelConfig`: `--lora_r 32`, `--use_dora`,
`--lora_modules_to_save lm_head`.
"""

import torch
from datasets import load_dataset
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_peft_config, get_quantization_config

import perdure


def main() -> None:
    """Train, or go on training; then save, describe and, if wanted, publish."""
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
    parser.set_defaults(use_cpu=not torch.accelerator.is_available())
    script, training, model = parser.parse_args_and_config()
    model.use_peft = True
    model.lora_target_modules = model.lora_target_modules or "all-linear"
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "dtype": model.dtype,
        "quantization_config": get_quantization_config(model),
    }
    dataset = load_dataset(script.dataset_name, name=script.dataset_config)

    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=dataset[script.dataset_train_split],
        peft_config=get_peft_config(model),
    )
    run = perdure.attach(trainer)  # another base than the run began with is refused when it resumes
    trainer.train(resume_from_checkpoint=True)
    if run.stop_requested:
        return  # SIGTERM: a checkpoint is durable, and the next run goes on from it

    done = perdure.finish(trainer, dataset_name=script.dataset_name)
    print(done, *done.problems, sep="\n  ")


if __name__ == "__main__":
    main()
