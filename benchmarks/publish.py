"""What pushing revisions costs training: steps per second with a push of every checkpoint, and without.

Trains a Llama of about 25 M parameters with AdamW, with a checkpoint every 10 steps in both. In one, each checkpoint is
pushed as a revision to the embedded hub, a process of its own, through a proxy so slow that the pushes always lag.
Runs are interleaved; what is timed is training, from its first step to its last, not what is drained afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import torch
import transformers
from _measure import write_json
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import perdure

TOKEN = "hf_tokenOfTheBenchmark123"
NAMES = ("saved", "saved and pushed")


class Steps(TrainerCallback):
    """When each step of a run ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends = [time.perf_counter()]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """Of each step, with what comes between."""
        return [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]


def serve_hub(folder: str, rate: float, addresses: Any) -> None:
    """A hub behind a proxy that lets `rate` bytes a second through to it; for a process of its own."""
    from perdure.hub.server import HubServer

    os.nice(19)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: float) -> None:
        with suppress(OSError):
            while block := await reader.read(2**14):
                writer.write(block)
                await writer.drain()
                await asyncio.sleep(len(block) / pace)
        with suppress(OSError):
            writer.write_eof()

    async def forward(address: tuple[str, int]) -> None:
        async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            hub_reader, hub_writer = await asyncio.open_connection(*address)
            await asyncio.gather(pump(reader, hub_writer, rate), pump(hub_reader, writer, 1e12))
            writer.close()
            hub_writer.close()

        server = await asyncio.start_server(both, "127.0.0.1", 0)
        addresses.put(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    with HubServer(folder, user="me", token=TOKEN) as hub:
        address = urlsplit(hub.url)
        asyncio.run(forward((address.hostname or "", address.port or 0)))


@contextmanager
def slow_hub(folder: Path, rate: float) -> Iterator[str]:
    """The address of such a hub."""
    spawned = multiprocessing.get_context("spawn")
    addresses = spawned.Queue()
    process = spawned.Process(target=serve_hub, args=(str(folder), rate, addresses), daemon=True)
    process.start()
    try:
        yield addresses.get(timeout=60)
    finally:
        process.terminate()
        process.join()


def train(out: Path, options: argparse.Namespace, *, push_to: str | None) -> tuple[list[float], int]:
    """Seconds of each step of one run, and how many pushes were not done when it ended."""
    torch.manual_seed(0)
    shape = {"hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 4, "num_attention_heads": 8}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32000, **shape))
    tokens = torch.randint(32000, (options.batch * options.steps, options.tokens))
    data = [{"input_ids": row, "labels": row} for row in tokens]
    arguments = TrainingArguments(
        str(out), max_steps=options.steps, per_device_train_batch_size=options.batch, save_steps=10,
        save_total_limit=2, logging_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, hub_token=TOKEN,
    )  # fmt: skip
    steps = Steps()
    trainer = Trainer(model, arguments, train_dataset=data, callbacks=[steps])
    trainer.remove_callback(PrinterCallback)
    with perdure.attach(trainer, push_to=push_to) as run:
        trainer.train()
        left = sum(job.pending for job in run.outbox.jobs()) if run.outbox is not None else 0
        if run.outbox is not None:
            run.outbox.stop()
    shutil.rmtree(out)
    os.sync()
    return steps.seconds, left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, after one that is not (default: 5)")
    parser.add_argument("--steps", type=int, default=60, help="steps of each run (default: 60)")
    parser.add_argument("--batch", type=int, default=4, help="sequences of a step (default: 4)")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of a sequence (default: 128)")
    parser.add_argument("--rate", type=float, default=2.0, help="MB per second that the hub takes (default: 2)")
    parser.add_argument("--dir", type=Path, help="a folder on the disk to measure (default: a new one in /tmp)")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    measured: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    lagging = []
    with TemporaryDirectory(dir=options.dir) as place, slow_hub(Path(place) / "hub", options.rate * 1e6) as url:
        os.environ |= {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0"}
        for number in range(options.rounds + 1):
            for name in random.sample(NAMES, len(NAMES)):
                print(f"\r\033[K{number}/{options.rounds} {name}", end="", file=sys.stderr, flush=True)
                repo = f"me/round-{number}" if name == NAMES[1] else None
                seconds, left = train(Path(place) / "out", options, push_to=repo)
                if number:
                    measured[name].append(seconds)
                    lagging += [left] if repo else []
    print("\r\033[K", end="", file=sys.stderr)
    report(measured, lagging, options)
    if options.json:
        write_json(options.json, seconds=measured, left=lagging)


def report(measured: dict[str, list[list[float]]], lagging: list[int], options: argparse.Namespace) -> None:
    """Print medians and spread, and what pushing costs."""
    saves = options.steps // 10
    print(f"{options.steps} steps, {saves} checkpoints; {min(lagging)} - {max(lagging)} unpushed when training ended; "
          f"medians of {options.rounds}; load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"{'':18}{'steps/s':>10}{'(min - max)':>18}{'longest step':>15}")
    speeds = {name: [len(run) / sum(run) for run in runs] for name, runs in measured.items()}
    for name, runs in measured.items():
        longest = statistics.median(max(run) for run in runs)
        spread = f"({min(speeds[name]):.2f} - {max(speeds[name]):.2f})"
        print(f"{name:18}{statistics.median(speeds[name]):>10.2f}{spread:>18}{longest * 1e3:>12.0f} ms")
    ratios = [pushed / saved for saved, pushed in zip(speeds[NAMES[0]], speeds[NAMES[1]], strict=True)]
    print(f"with pushes: {statistics.median(ratios):.3f} of the speed without ({min(ratios):.3f} - {max(ratios):.3f}); "
          "aimed at: 0.97 or more")  # fmt: skip


if __name__ == "__main__":
    main()
