"""Fine-tune with TRL's SFTTrainer, on a CPU, in about a minute; here, or in a process of its own.

As a program it prints a JSON line for each step, and one with the digest of the weights when it is done:
python -m perdure.demo.train FOLDER EPOCHS [--attach]
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import perdure
from perdure.demo.model import build_model, build_tokenizer
from perdure.demo.questions import Pair, pairs

SEED = 0
_BATCH = 16
_CHECKPOINTS = 10

Progress = Callable[[int, int, float, float], None]
"""Called with the step, the number of steps, its loss (NaN until it is known) and the seconds left."""


def build_trainer(
    model: Any, tokenizer: Any, pairs: Sequence[Pair], folder: Path, *, epochs: int, seed: int, progress: Progress
) -> Any:
    """An `SFTTrainer` that teaches `model` the answers; the loss is taken on the answers only.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer, with a chat template.
        pairs: What to learn.
        folder: The trainer's output folder.
        epochs: How often each pair is seen.
        seed: Decides the order of the pairs.
        progress: Told about every step.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    conversations = [
        {
            "prompt": [{"role": "user", "content": pair.question}],
            "completion": [{"role": "assistant", "content": pair.answer}],
        }
        for pair in pairs
    ]
    config = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=_BATCH,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        weight_decay=0.0,
        max_length=128,
        gradient_checkpointing=False,  # spends time to save memory, of which there is plenty here
        bf16=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(conversations),
        processing_class=tokenizer,
        callbacks=[_progress_callback(progress)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def attach(trainer: Any) -> perdure.Attachment:
    """Make the trainer's checkpoints perdure's: ten of them on the way, of which two are kept."""
    steps = math.ceil(len(trainer.train_dataset) / _BATCH) * trainer.args.num_train_epochs
    every = perdure.Every(steps=max(1, steps // _CHECKPOINTS))
    return perdure.attach(trainer, save=every, keep=perdure.Keep(last=2))


def losses(trainer: Any) -> dict[int, float]:
    """Step → loss, as the trainer reports it, of the whole run."""
    return {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}


def one_thread() -> None:
    """A model this small gains nothing from a second thread, and threads that wait for a busy core lose a lot."""
    import torch

    torch.set_num_threads(1)


def _progress_callback(progress: Progress) -> Any:
    from transformers import TrainerCallback

    class TellProgress(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began, self.first = time.monotonic(), state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                step, steps = state.global_step, state.max_steps
                left = (time.monotonic() - self.began) / (step - self.first) * (steps - step)
                progress(step, steps, float(logs["loss"]), left)

    return TellProgress()


def main(folder: str, epochs: str, *options: str) -> None:
    """Train as the demo does, from zero to the end."""
    one_thread()
    learned = pairs()
    tokenizer = build_tokenizer(learned)
    model = build_model(tokenizer, seed=SEED)

    def tell(step: int, steps: int, loss: float, left: float) -> None:
        print(json.dumps({"step": step, "steps": steps, "loss": loss, "left": left}), flush=True)

    trainer = build_trainer(model, tokenizer, learned, Path(folder), epochs=int(epochs), seed=SEED, progress=tell)
    if "--attach" in options:
        attach(trainer)
    trainer.train()
    print(json.dumps({"weights": perdure.save_model(model, folder).digests["model.safetensors"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
