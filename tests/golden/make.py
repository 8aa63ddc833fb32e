"""Writes the folders in `v1/`: what format version 1 looks like, as a perdure of its time wrote it.

They are kept as they are: a newer perdure reads them, or says that it cannot. So this is run once for a version of the
format (`python tests/golden/make.py tests/golden/v2`), and what it wrote is committed.

Every random number comes from a seed, but the values that a restore must bring back are written down in `values.json`,
so that nothing rests on another version of a library drawing the same ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import perdure

STEP, EPOCH, METRICS = 3, 0.75, {"loss": 0.5, "worst": float("inf")}
RANKS = 2


def llama() -> Any:
    """A causal language model of some 6 kB."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def adapted(base: Any, seed: int = 1) -> Any:
    """That model with a LoRA adapter neither half of which is zero."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    return get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)).eval()


def module() -> torch.nn.Module:
    """A model that no library knows, with a tie, a buffer, and another dtype."""
    torch.manual_seed(2)
    made = torch.nn.Sequential(
        torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2).to(torch.bfloat16)
    )
    made[2].weight = made[0].weight
    return made


def own_tensors(model: Any) -> dict[str, torch.Tensor]:
    """What is the model's own: of an adapted one the adapter, without the base."""
    tensors = dict(model.state_dict())
    return {name: tensors[name] for name in tensors if "lora_" in name} or tensors


class Notes:
    """A component of one's own, whose state holds all that can be expressed."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class Run:
    """Two layers trained on eight samples in two batches an epoch: optimizer, scheduler, loader and generators."""

    def __init__(self, notes: Any = None) -> None:
        torch.manual_seed(3)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(), torch.nn.Linear(3, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=2)
        self.loader = DataLoader(TensorDataset(torch.arange(32.0).reshape(8, 4)), batch_size=2, shuffle=True)
        self.batches: Iterable[Any] = self.loader
        self.notes = Notes(notes)
        self.state = perdure.State(
            model=self.model, optimizer=self.optimizer, scheduler=self.scheduler, loader=self.loader, notes=self.notes
        )

    def train(self, steps: int) -> None:
        """Begin an epoch, and stop within it."""
        self.batches = iter(self.loader)
        for _, (batch,) in zip(range(steps), self.batches, strict=False):
            self.optimizer.zero_grad()
            self.model(batch).square().mean().backward()
            self.optimizer.step()
            self.scheduler.step()


def values_of(run: Run) -> dict[str, Any]:
    """What a restore must bring back; to tell it, the epoch's last batches are taken and random numbers drawn."""
    state = run.optimizer.state_dict()
    return {
        "model": {name: tensor.flatten().tolist() for name, tensor in run.model.state_dict().items()},
        "moments": [one["exp_avg_sq"].flatten().tolist() for one in state["state"].values()],
        "lr": state["param_groups"][0]["lr"],
        "scheduler": run.scheduler.last_epoch,
        "batches": [batch[:, 0].tolist() for (batch,) in run.batches],
        "drawn": torch.rand(2).tolist(),
    }


def notes() -> Any:
    """A value of each sort that the encoding has."""
    import collections

    import numpy as np

    return [
        None, True, 7, 2**70, 0.1, float("-inf"), "text", (1, [2]), {3}, frozenset({4}), {5: "five", "$": "six"},
        collections.OrderedDict(a=1), collections.Counter("aab"), b"\x00\xff", 1 + 2j, torch.float16,
        torch.device("cpu"), torch.Size([2, 3]), torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
        np.array([[1, 2], [3, 4]], dtype=np.int16), np.float64(0.25),
    ]  # fmt: skip


def checkpoint(folder: Path, told: Any) -> Run:
    """Three steps of the run, and their checkpoint."""
    run = Run(told)
    run.train(STEP)
    with perdure.Checkpointer(folder, blocking=True) as ckpt:
        ckpt.save(STEP, run.state, epoch=EPOCH, metrics=METRICS, force=True)
    return run


def adapter_checkpoint(folder: Path) -> None:
    """A checkpoint of the adapter: without its base, which it names."""
    with perdure.Checkpointer(folder, blocking=True) as ckpt:
        ckpt.save(STEP, perdure.State(model=adapted(llama())), force=True)


def rank(folder: Path) -> None:
    """One of two processes: the same model, and a place in the data and generators of its own."""
    torch.distributed.init_process_group("gloo")
    number = torch.distributed.get_rank()
    run = checkpoint(folder / "ranks", {"rank": number})
    (folder / f"ranks-values-{number}.json").write_text(json.dumps(values_of(run)))
    torch.distributed.destroy_process_group()


def main(folder: Path) -> None:
    """Write all folders."""
    perdure.save_model(llama(), folder / "model")
    perdure.save_model(adapted(llama()), folder / "adapter", base_model="example/base")
    perdure.save_model(module(), folder / "module")
    values: dict[str, Any] = {"run": values_of(checkpoint(folder / "run", notes()))}
    adapter_checkpoint(folder / "adapter-run")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    subprocess.run(
        [*launch, __file__, str(folder)], check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    written = [folder / f"ranks-values-{number}.json" for number in range(RANKS)]
    values["ranks"] = [json.loads(path.read_text()) for path in written]
    for path in written:
        path.unlink()
    for name, made in (("model", llama()), ("adapter", adapted(llama())), ("module", module())):
        values[name] = {key: tensor.flatten().tolist() for key, tensor in own_tensors(made).items()}
    (folder / "values.json").write_text(json.dumps(values) + "\n")


if __name__ == "__main__":
    (rank if "RANK" in os.environ else main)(Path(sys.argv[1]))
