"""`export`: any model folder becomes a clean one; nothing in a `.bin` is executed; damage is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from small import contents, leftovers, llama, python, tokenizer

import perdure
from perdure.cli.export import command
from perdure.folder import stage
from perdure.model.streams import from_tensors
from perdure.model.weights import transformers_weights
from perdure.model.write import write_stream


def same_weights(folder: Path, model: Any) -> None:
    again, info = type(model).from_pretrained(folder, output_loading_info=True)
    assert not {key: names for key, names in info.items() if names}
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_all_adapters_of_a_folder_come_along(tmp_path: Path) -> None:
    model = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    model.add_adapter("second", peft.LoraConfig(r=2, target_modules=["v_proj"]))
    source = perdure.save_model(model, tmp_path / "source", base_model="me/base").path
    saved = perdure.export(source, tmp_path / "out", dtype="bf16")
    assert set(contents(saved.path)) == set(contents(source))
    for name in ("adapter_model.safetensors", "second/adapter_model.safetensors"):
        assert {tensor.dtype for tensor in load_file(saved.path / name).values()} == {torch.bfloat16}


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("sharded", [False, True], ids=["one-file", "shards"])
@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "no-manifest"])
def test_round_trip(safe: bool, sharded: bool, manifest: bool, tmp_path: Path) -> None:
    model = llama(tie_word_embeddings=True)
    source = tmp_path / "source"
    extra = {"README.md": b"# card", "modeling_mine.py": b"pass", "additional_chat_templates/tools.jinja": b"x",
             "mine_config.json": b'{"auto_map": {"AutoModel": "modeling_mine.Mine"}}'}  # fmt: skip
    limit = "8KB" if sharded else "5GB"
    perdure.save_model(
        model, source, tokenizer=tokenizer(), safe_serialization=safe, max_shard_size=limit, extra_files=extra
    )
    expected = set(contents(source))
    if not manifest:
        (source / "perdure.json").unlink()
    for name in (
        "model-f16.gguf",
        "training_args.bin",
        "trainer_state.json",
        "optimizer.pt",
        "rng_state.pth",
        ".hidden",
    ):
        (source / name).write_bytes(b"not of the model")
    (source / "checkpoint-5").mkdir()
    (source / "checkpoint-5/config.json").write_text("{}")

    saved = perdure.export(source, tmp_path / "out")
    weights = {name for name in expected if name.startswith(("model", "pytorch_model")) and "modeling" not in name}
    assert set(contents(saved.path)) == (expected - weights) | {"model.safetensors", "perdure.json"}
    assert perdure.verify(saved.path).ok
    same_weights(saved.path, model)
    direct = perdure.save_model(model, tmp_path / "direct")
    assert (saved.path / "model.safetensors").read_bytes() == (direct.path / "model.safetensors").read_bytes()

    again = perdure.export(saved.path, tmp_path / "again", max_shard_size="8KB")
    assert len([name for name in again.files if name.endswith(".safetensors")]) > 2
    same_weights(again.path, model)


def test_tied_tensors_of_a_bin_are_written_once(tmp_path: Path) -> None:
    model = llama(tie_word_embeddings=True)
    source = tmp_path / "source"
    model.config.save_pretrained(source)
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    assert torch.load(source / "pytorch_model.bin").keys() >= {"lm_head.weight", "model.embed_tokens.weight"}
    saved = perdure.export(source, tmp_path / "out")
    names = load_file(saved.path / "model.safetensors").keys()
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    same_weights(saved.path, model)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before-1.6"])
def test_a_bin_that_wants_to_run_code_is_refused(legacy: bool, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "owned",))

    source = tmp_path / "source"
    source.mkdir()
    torch.save({"a": Evil()}, source / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(perdure.Corrupt, match=r"pytorch_model\.bin is not a file of weights that can be read safely"):
        perdure.export(source, tmp_path / "out")
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(perdure.Corrupt, match="nothing in it was executed"):
        perdure.export(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    "damage", [b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(500), bytes(1000), b"\x80\x02}q\x00."], ids=range(5)
)
def test_a_damaged_bin_is_refused(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/pytorch_model.bin").write_bytes(damage)
    with pytest.raises(perdure.Corrupt, match=r"pytorch_model\.bin"):
        perdure.export(tmp_path / "source", tmp_path / "out")


def test_old_formats_and_odd_contents_of_a_bin(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).t())
    torch.save({"w": weight, "s": torch.tensor(2)}, source / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    saved = perdure.export(source, tmp_path / "out")
    assert saved.kind == "module"
    state = load_file(saved.path / "model.safetensors")
    assert torch.equal(state["w"], weight)
    assert torch.equal(state["s"], torch.tensor(2))
    torch.save({"model": {"w": weight}}, source / "pytorch_model.bin")
    with pytest.raises(perdure.Corrupt, match="does not hold a dictionary of tensors"):
        perdure.export(source, tmp_path / "out")


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", torch.bfloat16), (torch.float16, torch.float16)])
@pytest.mark.parametrize("safe", [True, False])
def test_dtype(dtype: Any, expected: torch.dtype, safe: bool, tmp_path: Path) -> None:
    model = llama()
    model.register_buffer("steps", torch.tensor([2**40]))
    perdure.save_model(model, tmp_path / "source", safe_serialization=safe)
    saved = perdure.export(tmp_path / "source", tmp_path / "out", dtype=dtype)
    state = load_file(saved.path / "model.safetensors")
    assert state.pop("steps").item() == 2**40
    for name, tensor in state.items():
        assert torch.equal(tensor, model.state_dict()[name].to(expected)), name
    assert json.loads((saved.path / "config.json").read_bytes())["dtype"] == str(expected).removeprefix("torch.")


def test_values_that_do_not_fit_are_told(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    save_file({"w": torch.tensor([1.0, 1e30]), "ok": torch.ones(2)}, tmp_path / "source/model.safetensors")
    saved = perdure.export(tmp_path / "source", tmp_path / "out", dtype="fp16")
    assert saved.warnings == ("w does not fit into float16: 1 infinite of 2 values",)
    with pytest.raises(perdure.InvalidInput, match="dtype='int4' is not known"):
        perdure.export(tmp_path / "source", tmp_path / "other", dtype="int4")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["flip", "missing"])
def test_damage_since_the_save_is_found_and_nothing_is_replaced(file: str, kind: str, tmp_path: Path) -> None:
    source = perdure.save_model(llama(seed=1), tmp_path / "source", tokenizer=tokenizer()).path
    perdure.save_model(llama(seed=2), tmp_path / "out")
    before = contents(tmp_path / "out")
    data = bytearray((source / file).read_bytes())
    data[-20] ^= 1
    (source / file).write_bytes(data) if kind == "flip" else (source / file).unlink()
    with pytest.raises((perdure.Corrupt, perdure.NotFound)) as caught:
        perdure.export(source, tmp_path / "out")
    assert file in str(caught.value) or kind == "missing"
    if (file, kind) == ("model.safetensors", "flip"):
        assert caught.value.tensor == "model.norm.weight"
    assert contents(tmp_path / "out") == before
    assert leftovers(tmp_path / "out") == []


def test_a_flip_in_a_header_is_found(tmp_path: Path) -> None:
    source = perdure.save_model(llama().half(), tmp_path / "source").path
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F16","shape":[64,16]', b'"I16","shape":[64,16]', 1))
    with pytest.raises(perdure.Corrupt, match="header"):
        perdure.export(source, tmp_path / "out")


def test_adapters(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(llama(), config)
    perdure.save_model(model, tmp_path / "source", safe_serialization=False, base_model="me/base")
    saved = perdure.export(tmp_path / "source", tmp_path / "out", max_shard_size=100)
    assert saved.kind == "adapter"
    assert set(saved.files) == {"adapter_model.safetensors", "adapter_config.json"}
    again = PeftModel.from_pretrained(llama(), saved.path)
    inputs = torch.arange(8)[None]
    assert torch.equal(again(inputs).logits, model.eval()(inputs).logits)


def test_a_checkpoint_gives_its_model_and_keeps_its_training_state(tmp_path: Path) -> None:
    model = llama()
    perdure.save_model(model, tmp_path / "model", tokenizer=tokenizer())
    small = contents(tmp_path / "model")
    del small["perdure.json"], small["model.safetensors"]
    with stage(tmp_path / "checkpoint-5") as staged:
        write_stream(staged, from_tensors(transformers_weights(model)), "model.safetensors", limit=10**9)
        for name, data in small.items():
            staged.write(name, data)
        staged.write("training_state/optimizer.json", b"{}")
        staged.write("trainer_state.json", b"{}")
        staged.commit("checkpoint", stale=lambda name: False, step=5)
    saved = perdure.export(tmp_path / "checkpoint-5", tmp_path / "out")
    assert saved.kind == "model"
    assert set(contents(tmp_path / "out")) == set(contents(tmp_path / "model"))
    same_weights(tmp_path / "out", model)


def test_wrong_calls(tmp_path: Path) -> None:
    with pytest.raises(perdure.NotFound, match="is not a folder"):
        perdure.export(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "source").mkdir()
    with pytest.raises(perdure.NotFound, match="No weights were found"):
        perdure.export(tmp_path / "source", tmp_path / "out")
    save_file({"a": torch.ones(1)}, tmp_path / "source/model.safetensors")
    with pytest.raises(perdure.InvalidInput, match="the same folder"):
        perdure.export(tmp_path / "source", tmp_path / "source/../source")
    (tmp_path / "source/model.safetensors.index.json").write_text("{}")
    with pytest.raises(
        perdure.InvalidInput, match=r"holds both model\.safetensors and model\.safetensors\.index\.json"
    ):
        perdure.export(tmp_path / "source", tmp_path / "out")


def test_links_out_of_the_folder_are_refused_and_the_hub_s_cache_is_not(tmp_path: Path) -> None:
    saved = perdure.save_model(llama(), tmp_path / "saved").path
    (saved / "perdure.json").unlink()
    snapshot = tmp_path / "models--me--base/snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--me--base/blobs").mkdir()
    for path in list(saved.iterdir()):
        path.rename(tmp_path / "models--me--base/blobs" / path.name)
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert perdure.verify(perdure.export(snapshot, tmp_path / "out").path).ok
    (tmp_path / "secret").write_text("key")
    (snapshot / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(perdure.InvalidInput, match="leads out of its folder"):
        perdure.export(snapshot, tmp_path / "out")


def test_memory_is_bounded_by_the_largest_tensor(tmp_path: Path) -> None:
    """Half a gigabyte in tensors of 16 MB, as a file with holes, in far less memory than that."""
    code = """
import resource, perdure
from perdure.format.header import lay_out
from pathlib import Path
source = Path(sys.argv[1])
source.mkdir()
head, header = lay_out([(f"w{number}", "F32", (4, 2**20)) for number in range(32)], {"format": "pt"})
with (source / "model.safetensors").open("wb") as file:
    file.write(head)
    file.truncate(header.size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
perdure.export(source, sys.argv[2], max_shard_size="100MB")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, "torch" in sys.modules)
"""
    run = python(code, tmp_path / "source", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    grown, torch_loaded = run.stdout.split()
    assert int(grown) < 64 * 1024
    assert torch_loaded == "False"


def test_command(tmp_path: Path) -> None:
    perdure.save_model(llama(), tmp_path / "source", safe_serialization=False)
    arguments = [str(tmp_path / "source"), str(tmp_path / "out"), "--dtype", "bf16", "--max-shard-size", "4KB"]
    result = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    assert document["path"] == str(tmp_path / "out")
    assert set(document["files"]) | {"perdure.json"} == set(contents(tmp_path / "out"))
    assert "model.safetensors.index.json" in document["files"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.stdout.startswith(f"{tmp_path / 'out'}: model in ")
