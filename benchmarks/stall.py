"""What one checkpoint costs training: the stall it causes, and the whole time it takes away.

Trains a transformer of about 55 M parameters with AdamW (0.66 GB of state). Blocks of steps with one save in them, one
block for each way of saving, are interleaved with blocks without, in one process; medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict

import perdure

BLOCK = 4  # steps: enough for any of these to end within


class Training:
    """A model that trains, a step at a time."""

    def __init__(self, batch: int) -> None:
        layer = torch.nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.1, batch_first=True)
        self.model = torch.nn.Sequential(torch.nn.Embedding(32000, 512), torch.nn.TransformerEncoder(layer, 7),
                                         torch.nn.Linear(512, 32000))  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.tokens = torch.randint(32000, (batch, 128))
        self.state = perdure.State(model=self.model, optimizer=self.optimizer)

    def backward(self) -> None:
        self.optimizer.zero_grad(set_to_none=False)
        out = self.model(self.tokens)
        torch.nn.functional.cross_entropy(out.view(-1, out.shape[-1]), self.tokens.view(-1)).backward()

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}


Saver = Callable[[Path], Callable[[], object]]  # begins a save; returns what waits for its end


def ways(training: Training, ckpt: perdure.Checkpointer) -> dict[str, Saver]:
    """Each way of saving, by name."""
    count = iter(range(1, 10**9))

    def ours(folder: Path) -> Callable[[], object]:
        ckpt.save(next(count), training.state, force=True)
        return ckpt.wait

    def torch_save(folder: Path) -> Callable[[], object]:
        folder.mkdir()
        with (folder / "state.pt").open("wb") as file:
            torch.save({"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}, file)
            file.flush()
            os.fsync(file.fileno())
        return lambda: None

    def dcp_save(folder: Path) -> Callable[[], object]:
        dcp.save(training.state_dict(), checkpoint_id=folder)
        return lambda: None

    def dcp_async(folder: Path) -> Callable[[], object]:
        return dcp.async_save(training.state_dict(), checkpoint_id=folder).result  # type: ignore[union-attr]

    return {"perdure": ours, "torch.save": torch_save, "dcp.save": dcp_save, "dcp.async_save": dcp_async}


def block(training: Training, save: Saver | None, folder: Path) -> tuple[float, float]:
    """Seconds that a block of steps takes, and the seconds that training lost in the call."""
    started, lost, wait = time.perf_counter(), 0.0, None
    for step in range(BLOCK):
        training.backward()
        training.optimizer.step()
        if step == 0 and save is not None:
            before = time.perf_counter()
            wait = save(folder)
            lost = time.perf_counter() - before
    if wait is not None:
        wait()
    return time.perf_counter() - started, lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    training = Training(options.batch)
    with TemporaryDirectory(dir=options.dir) as place, perdure.Checkpointer(Path(place) / "run") as ckpt:
        found: dict[str, list[tuple[float, float]]] = {"nothing": []}
        savers: dict[str, Saver | None] = {"nothing": None, **ways(training, ckpt)}
        for number in range(options.rounds + 1):
            for name, saver in savers.items():
                folder = Path(place) / f"{name}-{number}"
                whole, lost = block(training, saver, folder)
                if name == "perdure":  # what the next step had to wait, too; the others copy all within the call
                    lost = ckpt.saves[-1].stalled_seconds
                for left in (folder, Path(place) / "run"):
                    shutil.rmtree(left, ignore_errors=True)
                if number:  # the first round warms up
                    found.setdefault(name, []).append((whole, lost))
    base = statistics.median(whole for whole, _ in found.pop("nothing"))
    table = {
        name: {
            "stall_ms": statistics.median(lost for _, lost in rows) * 1e3,
            "whole_ms": (statistics.median(whole for whole, _ in rows) - base) * 1e3,
            "whole_spread_ms": (max(whole for whole, _ in rows) - min(whole for whole, _ in rows)) * 1e3,
        }
        for name, rows in found.items()
    }
    step = base / BLOCK * 1e3
    print(f"one training step: {step:.0f} ms; medians of {options.rounds}; load {os.getloadavg()[0]:.1f}")
    print(f"{'':16}{'stall ms':>10}{'whole cost ms':>15}{'spread':>10}")
    for name, row in table.items():
        print(f"{name:16}{row['stall_ms']:>10.1f}{row['whole_ms']:>15.0f}{row['whole_spread_ms']:>10.0f}")
    for record in ckpt.saves:
        print(f"  perdure: {record.nbytes / 1e9:.2f} GB, {record.gigabytes_per_second:.2f} GB/s durable, staged after "
              f"{record.staged_seconds:.2f} s, stalled {record.stalled_seconds * 1e3:.1f} ms")  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process: {peak:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps({"step_ms": step, "ways": table}, indent=1))


if __name__ == "__main__":
    main()
