"""Folders that a perdure of the past wrote are still whole, and mean what they meant: to us and to everybody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import make
import pytest
import torch
from safetensors.torch import load_file

import perdure

VERSION = Path(__file__).parent / "v1"
VALUES: dict[str, Any] = json.loads((VERSION / "values.json").read_text())
FOLDERS = sorted(manifest.parent for manifest in VERSION.rglob("perdure.json"))
IDS = [str(folder.relative_to(VERSION)) for folder in FOLDERS]


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy, so that nothing that a test does comes back into the tree."""
    return Path(shutil.copytree(VERSION, tmp_path / "golden"))


def values(tensors: dict[str, torch.Tensor]) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in tensors.items()}


@pytest.mark.parametrize("folder", FOLDERS, ids=IDS)
def test_every_folder_is_whole(folder: Path) -> None:
    found = perdure.verify(folder)
    assert found.ok and found.files > 0 and found.extra == ()


def test_there_is_one_of_each_kind() -> None:
    kinds = {json.loads((folder / "perdure.json").read_text())["kind"] for folder in FOLDERS}
    assert kinds == {"model", "adapter", "module", "checkpoint"}


@pytest.mark.parametrize("folder", FOLDERS, ids=IDS)
def test_exported_tensors_are_the_same(folder: Path, tmp_path: Path) -> None:
    saved = perdure.export(folder, tmp_path / "out")
    assert perdure.verify(tmp_path / "out").ok
    assert saved.kind in ("model", "adapter", "module")
    (weights,) = folder.glob("*.safetensors")
    for name, tensor in load_file(weights).items():
        assert torch.equal(load_file(saved.path / weights.name)[name], tensor)


def test_transformers_loads_the_model(golden: Path) -> None:
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(golden / "model")
    assert values(loaded.state_dict()) == VALUES["model"]


@pytest.mark.parametrize("folder", ["adapter", "adapter-run/checkpoint-3"])
def test_peft_loads_the_adapter(folder: str, golden: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(golden / "model")
    loaded = PeftModel.from_pretrained(base, golden / folder)
    assert values(make.own_tensors(loaded)) == VALUES["adapter"]


def test_safetensors_loads_the_module(golden: Path) -> None:
    loaded = make.module()
    loaded.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in loaded.state_dict().items()})
    loaded.load_state_dict(load_file(golden / "module/model.safetensors"), strict=False)
    assert values(dict(loaded.state_dict())) == VALUES["module"]


def test_the_checkpoint_is_listed(golden: Path) -> None:
    (found,) = perdure.checkpoints(golden / "run")
    assert (found.step, found.state, found.epoch, found.metrics) == (make.STEP, "whole", make.EPOCH, make.METRICS)


def test_the_checkpoint_restores_to_what_was_recorded(golden: Path) -> None:
    run = make.Run()
    with perdure.Checkpointer(golden / "run") as ckpt:
        assert ckpt.restore(run.state) == make.STEP
    assert [repr(value) for value in run.notes.value] == [repr(value) for value in make.notes()]
    assert make.values_of(run) == VALUES["run"]


def test_the_adapters_checkpoint_restores_onto_its_base(golden: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = make.adapted(AutoModelForCausalLM.from_pretrained(golden / "model"), seed=9)
    assert values(make.own_tensors(model)) != VALUES["adapter"]
    with perdure.Checkpointer(golden / "adapter-run") as ckpt:
        assert ckpt.restore(perdure.State(model=model)) == make.STEP
    assert values(make.own_tensors(model)) == VALUES["adapter"]


def test_the_checkpoint_of_two_processes_restores_on_each(golden: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={make.RANKS}"]
    program = str(Path(__file__).parent / "restore_rank.py")
    done = subprocess.run(
        [*launch, program, golden / "ranks", tmp_path],
        capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(make.RANKS):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {"step": make.STEP, "notes": {"rank": rank}, "values": VALUES["ranks"][rank]}
