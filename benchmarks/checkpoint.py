"""Durable saves, verified restores, and what saving costs training, beside the disk's limit and their peers.

Every save ends when the bytes, and the names of the files that hold them, are on the disk: peers that do not fsync
are followed by one. Every restore ends with the bytes in the live parameters of a model.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import _measure
import stall
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from _disk import drop_pages, fsync_tree, load_pages, raw_read, raw_write
from _measure import Row
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

import perdure

State = dict[str, torch.Tensor]


def main() -> None:
    options = _measure.arguments(__doc__.splitlines()[0])
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    folder = Path(tempfile.mkdtemp(prefix="perdure-bench-", dir=options.dir))
    try:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        figures = moves(options, folder)
        text, figures["training"] = stall.measure(folder / "training", options.rounds, options.only)
        print(text)
        if options.json:
            _measure.write_json(options.json, rounds=options.rounds, **figures)
    finally:
        shutil.rmtree(folder)
        dist.destroy_process_group()


@torch.no_grad()
def moves(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure saves and restores of one model, and print them; returns all figures."""
    model = build(options.size)
    state = untied(model)
    nbytes = sum(tensor.nbytes for tensor in state.values())
    print(f"{nbytes / 1e9:.2f} GB of bf16 in {len(state)} tensors, {options.rounds} rounds, {folder}")
    figures: dict[str, Any] = {"bytes": nbytes}
    for title, rows in (
        ("durable save", saves(model, state, folder, nbytes)),
        ("cold restore", restores(model, state, folder, drop_pages)),
        ("warm restore", restores(model, state, folder, load_pages)),
    ):
        picked = _measure.chosen(rows, options.only)
        _measure.measure(picked, options.rounds)
        print(_measure.table(title, picked, nbytes), end="\n\n", flush=True)
        figures[title] = _measure.document(picked, nbytes)
    return figures


def build(size: float) -> Any:
    """A Llama of about `size` GB with random weights in bf16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    layer, vocabulary = 102_769_664, 131_072_000
    config = LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_attention_heads=32, vocab_size=32_000, tie_word_embeddings=True,
        num_hidden_layers=max(1, round((size * 1e9 - vocabulary) / layer)), dtype="bfloat16",
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    model.tie_weights()
    for tensor in model.state_dict().values():
        tensor.uniform_(-1, 1)
    return model


def untied(model: Any) -> State:
    """The live tensors of a model, each once."""
    return {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}


def saves(model: Any, state: State, folder: Path, nbytes: int) -> list[Row]:
    """Each row writes into a folder of its own, which is removed afterwards."""
    out = folder / "out"

    def make_out() -> None:
        out.mkdir()
        fsync_tree(out)  # and with it what the last row removed, which the disk may have to be told of

    def row(name: str, run: Callable[[], float | None]) -> Row:
        return Row(name=name, run=run, before=make_out, after=partial(shutil.rmtree, out))

    def then_fsync(save: Callable[[], object]) -> None:
        save()
        fsync_tree(out)

    def pretrained() -> None:
        model.save_pretrained(out)

    here = {"use_pinned_memory": False, "use_shared_memory": False, "use_non_blocking_copy": False}  # there is no GPU
    stagers = {late: DefaultStager(StagingOptions(use_async_staging=late, **here)) for late in (False, True)}

    def dcp_async(asynchronous: bool) -> float:
        start = time.perf_counter()
        response: Any = dcp.async_save(state, checkpoint_id=out / "dcp", async_stager=stagers[asynchronous])
        blocked = time.perf_counter() - start
        getattr(response, "upload_completion", response).result()
        fsync_tree(out)
        return blocked

    return [
        row("raw pwrite + fsync", lambda: raw_write(out / "raw", nbytes)),
        row("perdure checkpoint, blocking", lambda: save_checkpoint(model, out)),
        row("perdure.save_model", lambda: void(perdure.save_model(model, out / "model"))),
        row("save_pretrained + fsync", lambda: then_fsync(pretrained)),
        row("safetensors + fsync", lambda: then_fsync(lambda: save_file(state, out / "f", metadata={"format": "pt"}))),
        row("torch.save + fsync", lambda: then_fsync(lambda: torch.save(state, out / "f"))),
        row("dcp.save", lambda: then_fsync(lambda: dcp.save(state, checkpoint_id=out / "dcp"))),
        row("dcp.async_save", lambda: dcp_async(False)),
        row("dcp.async_save, async staging", lambda: dcp_async(True)),
    ]


def save_checkpoint(model: Any, folder: Path) -> None:
    """A whole checkpoint: the model, its configuration, the generators, every digest, committed."""
    with perdure.Checkpointer(folder, blocking=True) as ckpt:
        ckpt.save(1, perdure.State(model=model), force=True)


def restores(model: Any, state: State, folder: Path, prepare: Callable[..., None]) -> list[Row]:
    """Each row reads what was written beforehand; `prepare` makes its files cold or warm."""
    ours, pickled, distributed = folder / "ours", folder / "pickled", folder / "distributed"
    if not ours.exists():
        save_checkpoint(model, ours)
        torch.save(state, pickled)
        dcp.save(state, checkpoint_id=distributed)
        drop_pages(folder)
    weights = ours / "checkpoint-1" / "model.safetensors"
    probe = {name: tensor.view(-1)[-1].clone() for name, tensor in state.items()}

    def row(name: str, run: Callable[[], None], path: Path, *, into_model: bool = True) -> Row:
        def before() -> None:
            drop_pages(folder)
            prepare(path)
            for tensor in state.values() if into_model else ():
                tensor.view(-1)[-1] = 7

        def after() -> None:
            assert all(torch.equal(tensor.view(-1)[-1], probe[name]) for name, tensor in state.items()), name

        return Row(name=name, run=run, before=before, after=after)

    return [
        row("raw preadv", lambda: raw_read(weights), weights, into_model=False),
        row("perdure checkpoint, verified", lambda: restore_checkpoint(model, ours), weights),
        row("perdure.verify", lambda: perdure.verify(weights.parent).raise_for_problems(), weights, into_model=False),
        row("torch.load(mmap) + copy_", lambda: copy_all(torch.load(pickled, mmap=True), state), pickled),
        row("dcp.load", lambda: void(dcp.load(state, checkpoint_id=distributed)), distributed),
        row("safetensors + copy_", lambda: load_safetensors(weights, state), weights),
    ]


def restore_checkpoint(model: Any, folder: Path) -> None:
    """A checkpoint into the live model, every digest compared with the manifest's."""
    with perdure.Checkpointer(folder) as ckpt:
        ckpt.restore(perdure.State(model=model))


def load_safetensors(path: Path, state: State) -> None:
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            state[name].copy_(file.get_tensor(name))


def copy_all(loaded: State, state: State) -> None:
    for name, tensor in loaded.items():
        state[name].copy_(tensor)


def void(_: object) -> None:
    """Drop a result that a row must not return."""


if __name__ == "__main__":
    main()
