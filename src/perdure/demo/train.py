"""Fine-tune with TRL's SFTTrainer, on a CPU, in about a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perdure.demo.questions import Pair

Progress = Callable[[int, int, float, float], None]
"""Called with the step, the number of steps, the newest loss (NaN at first) and the seconds left."""


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
        per_device_train_batch_size=16,
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
        logging_steps=10,
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


def _progress_callback(progress: Progress) -> Any:
    from transformers import TrainerCallback

    class TellProgress(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.monotonic()
            self.loss = float("nan")

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            self.loss = float((logs or {}).get("loss", self.loss))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step, steps = state.global_step, state.max_steps
            left = (time.monotonic() - self.began) / step * (steps - step)
            progress(step, steps, self.loss, left)

    return TellProgress()
