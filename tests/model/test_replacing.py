"""One save over another: nothing stale stays, what belongs to others does, modes are as the umask says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small import contents, leftovers, llama, python, tokenizer

import perdure
from perdure.format.manifest import read_manifest


def single(folder: Path) -> None:
    perdure.save_model(llama(seed=1), folder, tokenizer=tokenizer())


def sharded(folder: Path) -> None:
    perdure.save_model(llama(seed=2), folder, max_shard_size="8KB")


def pickled(folder: Path) -> None:
    perdure.save_model(llama(seed=3), folder, safe_serialization=False)


def module(folder: Path) -> None:
    torch.manual_seed(0)
    perdure.save_model(torch.nn.Linear(2, 2), folder)


def adapter(folder: Path) -> None:
    perdure.save_model(with_lora(), folder)


def two_adapters(folder: Path) -> None:
    model = with_lora()
    model.add_adapter("second", model.peft_config["default"])
    perdure.save_model(model, folder)


KINDS = [single, sharded, pickled, module, adapter, two_adapters]


def with_lora() -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(llama(seed=4), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))


@pytest.mark.parametrize("new", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("old", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("company", "manifest"), [(False, True), (True, False)], ids=["alone", "in-company"])
def test_nothing_stale_stays(
    old: Callable[[Path], None], new: Callable[[Path], None], manifest: bool, company: bool, tmp_path: Path
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    old(out)
    if not manifest:
        (out / "perdure.json").unlink()
    theirs = {
        "notes.txt": b"mine",
        "logs/run.log": b"0.5",
        "checkpoint-5/model.safetensors": b"whatever",
        "checkpoint-5/trainer_state.json": b"{}",
        "training_args.bin": b"args",
    }
    for name, data in theirs.items() if company else ():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(data)
    new(out)
    new(fresh)
    left = contents(out)
    if company:
        assert {name: left.pop(name) for name in theirs} == theirs
    kept = set(left) - set(contents(fresh))
    # Without a manifest, a tokenizer or an adapter in a folder of its own may be anybody's.
    tolerated = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} if not manifest else set()
    assert {name for name in kept if manifest or not name.startswith("second/")} <= tolerated
    assert {name: left[name] for name in contents(fresh)} == contents(fresh)
    assert {problem.path for problem in perdure.verify(out).problems} <= tolerated
    assert leftovers(out) == []
    load(out)


def test_configs_of_an_older_model_go_though_no_manifest_names_them(tmp_path: Path) -> None:
    sharded(tmp_path / "out")
    (tmp_path / "out/perdure.json").unlink()
    adapter(tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {"adapter_config.json", "adapter_model.safetensors", "perdure.json"}


def test_a_config_that_is_no_model_s_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text('{"learning_rate": 1}')
    adapter(tmp_path / "out")
    assert (tmp_path / "out/config.json").read_text() == '{"learning_rate": 1}'


def load(folder: Path) -> None:
    """Whatever a loader finds must be one model: all of its names, no other shapes."""
    from peft import PeftModel
    from safetensors.torch import load_model
    from transformers import LlamaForCausalLM

    kind = read_manifest(folder).kind
    if kind == "module":
        load_model(torch.nn.Linear(2, 2), folder / "model.safetensors")
    elif kind == "adapter":
        loaded, saved = PeftModel.from_pretrained(llama(seed=4), folder), with_lora()
        assert loaded.peft_config["default"].target_modules == {"q_proj"}
        assert loaded.state_dict().keys() == saved.state_dict().keys()
    else:
        _, info = LlamaForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not {key: names for key, names in info.items() if names}


def test_modes_are_as_the_umask_says(tmp_path: Path) -> None:
    code = """
import json, os, perdure
from pathlib import Path
from small import llama, tokenizer
options = {"tokenizer": tokenizer(), "max_shard_size": "8KB", "extra_files": {"README.md": b"#"}}
for umask in (0o022, 0o027, 0o077):
    place = Path(sys.argv[1]) / str(umask)
    os.umask(umask)
    perdure.save_model(llama(seed=1), place / "a/once", **options)
    for seed in (1, 2):
        perdure.save_model(llama(seed=seed), place / "exchanged", **options)
    perdure.save_model(llama(seed=1), place / "shared", safe_serialization=False)
    (place / "shared/notes.txt").write_text("mine")
    perdure.save_model(llama(seed=2), place / "shared", **options)
paths = Path(sys.argv[1]).rglob("*")
print(json.dumps({str(path.relative_to(sys.argv[1])): [path.is_dir(), path.stat().st_mode & 0o777] for path in paths}))
"""
    run = python(code, tmp_path)
    assert run.returncode == 0, run.stderr
    modes = json.loads(run.stdout)
    assert len(modes) > 120
    for path, (is_folder, mode) in modes.items():
        umask = int(path.split("/")[0])
        assert oct(mode) == oct((0o777 if is_folder else 0o666) & ~umask), path


def test_an_exchanged_folder_keeps_the_mode_it_was_given(tmp_path: Path) -> None:
    single(tmp_path / "out")
    (tmp_path / "out").chmod(0o700)
    single(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_savers_and_readers_at_once(tmp_path: Path) -> None:
    """Four processes replace one folder again and again; every reader finds one whole model, and in the end one is."""
    code = """
import os, time, perdure
from pathlib import Path
from small import llama
out, savers, enough = Path(sys.argv[1]), [], Path(sys.argv[1] + ".enough")
models = [llama(seed=seed) for seed in range(4)]
for seed, model in enumerate(models):
    if (child := os.fork()) == 0:
        while not enough.exists():
            perdure.save_model(model, out, max_shard_size="8KB" if seed % 2 else "5GB")
        os._exit(0)
    savers.append(child)

def state():
    try:
        return os.stat(out).st_ino, (out / "perdure.json").read_bytes()
    except FileNotFoundError:
        return None

seen, end = set(), time.monotonic() + 60
while len(seen) < 3 and time.monotonic() < end:
    before = state()
    try:
        found = perdure.verify(out) if before else None
    except (perdure.NotFound, FileNotFoundError):
        found = None
    if found and before == state():  # otherwise it looked at two models, one after the other
        assert found.ok, found.problems
        seen.add(before[1])
enough.touch()
assert all(os.waitpid(saver, 0)[1] == 0 for saver in savers)
enough.unlink()
assert perdure.verify(out).ok
print(len(seen))
"""
    out = tmp_path / "out"
    run = python(code, out)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 3
    assert leftovers(out) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    load(out)
