"""Training runs of attached trainers, each in a process forked from one that has imported all it needs.

The parent of a fork must never have run a backward pass, so runs are not forked from the tests themselves.
"""

# ruff: noqa: E402 - what imports print must not come between the answers
from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

os.environ["CI"] = "1"
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # trainers and tokenizers print

import numpy as np
import pandas as pd
import torch
import transformers
import trl
from datasets import Dataset
from peft import LoraConfig
from tiny_models import make_model, make_tokenizer
from transformers import EarlyStoppingCallback, LlamaForSequenceClassification, TrainerCallback

import perdure
from perdure.format.manifest import read_manifest

TEXT = [(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.") for a in range(4) for b in range(3)]
TOKENIZER = make_tokenizer([text for pair in TEXT for text in pair])
STEPS = 8
TIMES = ("runtime", "per_second", "step_time")


class Interrupted(TrainerCallback):
    """Asks for a stop while a step is under way, or kills the process after one, within the time that a step takes."""

    def __init__(self, stop_at: int | None, kill_at: float | None) -> None:
        self._stop_at = stop_at
        self._kill_at = kill_at
        self._began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.monotonic()
        if state.global_step + 1 == self._stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._kill_at is not None and state.global_step == int(self._kill_at):
            delay = (self._kill_at % 1) * (time.monotonic() - self._began)
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


class KilledWhenSaved(TrainerCallback):
    """Kills the process when the checkpoint of a step is durable, as soon after that step as it can be."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            saved = Path(args.output_dir) / f"checkpoint-{self._step}"
            deadline = time.monotonic() + 20
            while not saved.exists():
                assert time.monotonic() < deadline, f"{saved} was not saved"
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.save_strategy == "steps":
            self.on_step_begin(args, state, control)

    on_epoch_begin = on_train_end = on_step_begin


class CutShort(TrainerCallback):
    """Ends an epoch after a step."""

    def __init__(self, step: int | None) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_epoch_stop = state.global_step == self._step


class Forgetful:
    """A collator that leaves out tokens by all three generators."""

    def __init__(self, collate: Any) -> None:
        self._collate = collate

    def __call__(self, rows: Any) -> Any:
        batch = self._collate(rows)
        gone = (torch.rand(batch["labels"].shape) + random.random() + np.random.rand()) / 3 < 0.3
        return {**batch, "labels": torch.where(gone, -100, batch["labels"])}


def rewarded(completions: list[Any], **kwargs: Any) -> list[float]:
    return [float(len(set(one[0]["content"]))) for one in completions]


def make_trainer(kind: str, out: str, *, lora: bool, stream: bool, forgetful: bool, arguments: dict[str, Any]) -> Any:
    settings = {
        "output_dir": out, "max_steps": STEPS, "per_device_train_batch_size": 2, "use_cpu": True, "bf16": False,
        "report_to": "none", "save_strategy": "steps", "save_steps": 2, "logging_steps": 3, "disable_tqdm": True,
        "learning_rate": 1e-3, "gradient_checkpointing": False, **arguments,
    }  # fmt: skip
    say = [[{"role": "user", "content": q}] for q, _ in TEXT]
    answer = [[{"role": "assistant", "content": a}] for _, a in TEXT]
    data = Dataset.from_dict({"prompt": say, **({} if kind in ("grpo", "rloo") else {"completion": answer})})
    if kind == "kto":
        data = data.add_column("label", [True, False] * (len(TEXT) // 2))
    if kind in ("dpo", "reward"):
        data = Dataset.from_dict({"prompt": say, "chosen": answer, "rejected": [*answer[1:], answer[0]]})
    common: dict[str, Any] = {
        "model": make_model(TOKENIZER, attention_dropout=0.1),
        "train_dataset": data.to_iterable_dataset(num_shards=2) if stream else data,
        "processing_class": TOKENIZER,
        "peft_config": LoraConfig(r=2, lora_dropout=0.2, target_modules="all-linear") if lora else None,
    }
    if kind == "grpo":
        length = {"max_completion_length": 8, "num_generations": 2}
        return trl.GRPOTrainer(args=trl.GRPOConfig(**settings, **length), reward_funcs=rewarded, **common)
    if kind == "rloo":
        length = {"max_completion_length": 8, "num_generations": 2}
        return trl.RLOOTrainer(args=trl.RLOOConfig(**settings, **length, beta=0.0), reward_funcs=rewarded, **common)
    if kind == "kto":
        return trl.KTOTrainer(args=trl.KTOConfig(**settings, max_length=64), ref_model=make_model(TOKENIZER), **common)
    if kind == "reward":
        config = common["model"].config
        config.num_labels, config.pad_token_id = 1, TOKENIZER.pad_token_id
        common["model"] = LlamaForSequenceClassification(config)
        return trl.RewardTrainer(args=trl.RewardConfig(**settings, max_length=64), **common)
    if kind == "dpo":
        return trl.DPOTrainer(args=trl.DPOConfig(**settings, max_length=64), ref_model=make_model(TOKENIZER), **common)
    evaluates = "eval_strategy" in arguments
    common["eval_dataset"] = data.select(range(4)) if evaluates else None
    trainer = trl.SFTTrainer(args=trl.SFTConfig(**{"max_length": 64, **settings}), **common)
    if arguments.get("load_best_model_at_end"):
        trainer.add_callback(EarlyStoppingCallback(1))
    if forgetful:
        trainer.data_collator = Forgetful(trainer.data_collator)
    return trainer


def train(
    out: str,
    report: str,
    kind: str = "sft",
    *,
    stop_at: int | None = None,
    kill_at: float | None = None,
    kill_saved: int | None = None,
    cut_at: int | None = None,
    lora: bool = False,
    stream: bool = False,
    forgetful: bool = False,
    **arguments: Any,
) -> None:
    """Train, going on from what is in `out`; write down what became of it, unless it was stopped."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.set_seed(0)
    trainer = make_trainer(kind, out, lora=lora, stream=stream, forgetful=forgetful, arguments=arguments)
    trainer.add_callback(Interrupted(stop_at, kill_at))
    trainer.add_callback(CutShort(cut_at))
    if kill_saved is not None:
        trainer.add_callback(KilledWhenSaved(kill_saved))
    handle = perdure.attach(trainer)
    result = trainer.train(resume_from_checkpoint=True)
    if handle.stop_requested:
        return
    generators = [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]  # type: ignore[index]
    end = {
        "weights": digest(trainer.model.state_dict()),
        "optimizer": digest(trainer.optimizer.state_dict()["state"]),
        "generators": digest(generators),
        "history": history(trainer.state.log_history),
        "loss": result.training_loss,
        "reference": digest(reference.state_dict()) if (reference := getattr(trainer, "ref_model", None)) else None,
        "completions": [
            pd.read_parquet(file).to_json()
            for step in sorted({entry["step"] for entry in trainer.state.log_history})  # a stop logs at its own
            if (file := Path(out, "completions", f"completions_{step:05}.parquet")).exists()
        ],
        "scheduler": repr(trainer.lr_scheduler.state_dict()),
        "best": [trainer.state.best_metric, Path(trainer.state.best_model_checkpoint or "").name],
        "checkpoints": {info.path.name: content(info.path) for info in perdure.checkpoints(out)},
    }
    Path(report).write_text(json.dumps(end))


def history(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was logged, but for how long it took."""
    return [{k: v for k, v in entry.items() if not any(part in k for part in TIMES)} for entry in log]


def content(checkpoint: Path) -> Any:
    """What a checkpoint holds, but for what tells the time, or how the place in the data was come to."""
    files = read_manifest(checkpoint).files
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    best = [state["best_metric"], Path(state["best_model_checkpoint"] or "").name]
    names = (name for name in sorted(files) if name.endswith(".safetensors") and "loader" not in name)
    tensors = [[name, files[name].digest] for name in names]
    return [history(state["log_history"]), best, tensors]


def digest(value: Any) -> str:
    """Of every bit of tensors, numbers and nests of them."""
    hasher = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            hasher.update(item.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(item, dict):
            for key, inner in item.items():
                add([str(key), inner])
        elif isinstance(item, (list, tuple)):
            for inner in item:
                add(inner)
        else:
            hasher.update(repr(item).encode())

    add(value)
    return hasher.hexdigest()


def serve() -> None:
    """Fork a run for each line of standard input; print its status once it ended."""
    for kind in ("sft", "dpo", "kto", "grpo", "rloo", "reward"):  # imports what they import late
        make_trainer(kind, "/nonexistent", lora=kind == "sft", stream=False, forgetful=False, arguments={})
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                train(**json.loads(line))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(os.waitpid(child, 0)[1], file=ANSWERS, flush=True)


if __name__ == "__main__":
    serve()
