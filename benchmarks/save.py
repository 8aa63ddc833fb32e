"""What `save_model` costs beside its peers: durable gigabytes a second, interleaved, in one process.

Every contender leaves the same weights on disk, fsynced. `raw` is the same bytes in one buffered write: what the file
system gives without any of the work. Figures move with the machine; the ratios last.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def build(gigabytes: float) -> object:
    """A Llama of about so many bytes in bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden = 1024
    layers = max(1, round(gigabytes * 1e9 / 2 / (12.6 * hidden**2)))
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        vocab_size=8192,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(torch.bfloat16)


def fsync_all(folder: Path) -> None:
    for path in [*folder.iterdir(), folder, folder.parent]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def contenders(model: object) -> dict[str, Callable[[Path], None]]:
    import torch
    from safetensors.torch import save_file

    import perdure

    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}  # type: ignore[attr-defined]

    def raw(folder: Path) -> None:
        folder.mkdir()
        descriptor = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT)
        for tensor in state.values():
            view = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
            while view:
                view = view[os.write(descriptor, view) :]
        os.close(descriptor)
        fsync_all(folder)

    def theirs(save: Callable[[Path], object]) -> Callable[[Path], None]:
        def run(folder: Path) -> None:
            folder.mkdir()
            save(folder)
            fsync_all(folder)

        return run

    return {
        "raw write + fsync": raw,
        "perdure.save_model": lambda folder: void(perdure.save_model(model, folder)),  # type: ignore[arg-type]
        "save_pretrained + fsync": theirs(model.save_pretrained),  # type: ignore[attr-defined]
        "safetensors.save_file + fsync": theirs(lambda folder: save_file(state, folder / "model.safetensors")),
        "torch.save + fsync": theirs(lambda folder: torch.save(state, folder / "model.bin")),
    }


def void(_: object) -> None:
    """For a callable whose result is of no interest."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, help="gigabytes of weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=None, help="a folder on the disk to measure")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args()

    model = build(options.size)
    nbytes = sum(p.numel() * p.element_size() for p in model.parameters())  # type: ignore[attr-defined]
    seconds: dict[str, list[float]] = {}
    work = Path(tempfile.mkdtemp(prefix="perdure-bench-", dir=options.dir))
    try:
        for number in range(options.rounds + 1):
            for name, save in contenders(model).items():
                target = work / "out"
                os.sync()
                start = time.perf_counter()
                save(target)
                took = time.perf_counter() - start
                if number:  # the first round only warms up
                    seconds.setdefault(name, []).append(took)
                shutil.rmtree(target)
            print(f"round {number}/{options.rounds}", file=sys.stderr)
    finally:
        shutil.rmtree(work)

    median = {name: nbytes / 1e9 / statistics.median(times) for name, times in seconds.items()}
    raw = median["raw write + fsync"]
    print(f"{nbytes / 1e9:.2f} GB of bfloat16, {options.rounds} rounds, medians (slowest to fastest)")
    print(f"{'':<32}{'GB/s':>8}{'spread':>16}{'x raw':>8}")
    for name, times in seconds.items():
        spread = f"{nbytes / 1e9 / max(times):.2f}-{nbytes / 1e9 / min(times):.2f}"
        print(f"{name:<32}{median[name]:>8.2f}{spread:>16}{median[name] / raw:>8.2f}")
    if options.json:
        options.json.write_text(
            json.dumps(
                {"bytes": nbytes, "seconds": seconds, "ratio": {n: m / raw for n, m in median.items()}}, indent=2
            )
        )


if __name__ == "__main__":
    main()
