"""Scenes of a loop written with Accelerate; see `ranks.py`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from ranks import RANK, SIZE, Augmented, digest, kill_me, main, scene, seed
from torch.utils.data import DataLoader

import perdure

TOTAL = 9


class Average:
    """A moving average of the loss: an object of one's own."""

    def __init__(self) -> None:
        self.value = 0.0

    def state_dict(self) -> Any:
        return {"value": self.value}

    def load_state_dict(self, state: Any) -> None:
        self.value = state["value"]


def train(folder: Path, at: Callable[[int], None] = lambda step: None) -> dict[str, Any]:
    seed()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
    assert accelerator.num_processes == SIZE
    layers = torch.nn.Linear(8, 32), torch.nn.GELU(), torch.nn.Dropout(0.3), torch.nn.Linear(32, 1)
    model: Any = torch.nn.Sequential(*layers)
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler: Any = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=TOTAL * SIZE)
    loader: Any = DataLoader(Augmented(22 * SIZE), batch_size=2, shuffle=True, num_workers=1)
    model, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)
    average, seen = Average(), {}
    accelerator.register_for_checkpointing(average)
    state = perdure.State.from_accelerator(accelerator)
    with perdure.Checkpointer(folder, save=perdure.Every(steps=2), keep=perdure.Keep(last=2)) as ckpt:
        step = began = ckpt.restore(state)
        while step < TOTAL and not ckpt.stop_requested:
            for x, y in loader:
                with accelerator.accumulate(model):
                    loss = (model(x)[:, 0] - y).pow(2).mean()
                    accelerator.backward(loss)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
                    average.value = 0.9 * average.value + 0.1 * loss.item()
                seen.setdefault(step, []).append(digest([loss, x]))
                if accelerator.sync_gradients:
                    step += 1
                    at(step)
                    ckpt.save(step, state)
                    if step == TOTAL or ckpt.stop_requested:
                        break
    trained = [model.state_dict(), optimizer.state_dict(), scheduler.state_dict()]
    everything = digest([*trained, torch.get_rng_state(), average.value])
    return {"began": began, "ended": step, "seen": seen, "everything": everything}


@scene
def whole(folder: Path) -> Any:
    return train(folder)


@scene
def exact_1_killed(folder: Path) -> Any:
    return train(folder, lambda step: kill_me(signal.SIGKILL) if step == 3 and RANK == SIZE - 1 else None)


@scene
def exact_2_stopped(folder: Path) -> Any:
    return train(folder, lambda step: kill_me(signal.SIGTERM) if step == 5 and RANK == SIZE - 1 else None)


@scene
def exact_3_to_the_end(folder: Path) -> Any:
    return train(folder)


if __name__ == "__main__":
    sys.exit(main())
