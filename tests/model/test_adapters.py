"""Adapters equal what PEFT itself writes, reload to the same logits, and name their base by its Hub id only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file
from small import contents, llama

import perdure

INPUTS = torch.arange(3, 11)[None]


def lora(**settings: Any) -> LoraConfig:
    settings = {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, **settings}
    return LoraConfig(r=2, task_type="CAUSAL_LM", **settings)


def wrapped(config: Any) -> PeftModel:
    return get_peft_model(llama(), config).eval()


def two() -> PeftModel:
    model = wrapped(lora())
    model.add_adapter("second", lora(target_modules=["o_proj"]))
    return model


def tied_and_resized() -> PeftModel:
    base = llama(tie_word_embeddings=True)
    return get_peft_model(base, lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True)).eval()


MODELS: dict[str, Callable[[], PeftModel]] = {
    "lora": lambda: wrapped(lora()),
    "dora": lambda: wrapped(lora(use_dora=True)),
    "rslora-bias": lambda: wrapped(lora(use_rslora=True, bias="lora_only")),
    "modules-to-save": lambda: wrapped(lora(modules_to_save=["lm_head"])),
    "tied-modules-to-save": tied_and_resized,
    "trainable-tokens": lambda: wrapped(lora(trainable_token_indices=[3, 5])),
    "embedding": lambda: wrapped(lora(target_modules=["embed_tokens", "q_proj"])),
    "prompt-tuning": lambda: wrapped(PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3)),
    "two-adapters": two,
}


@pytest.mark.parametrize("kind", MODELS)
def test_equals_peft_s_own_and_reloads_to_the_same_logits(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    before = {name: config.to_dict() for name, config in model.peft_config.items()}
    logits = model(INPUTS).logits
    saved = perdure.save_model(model, tmp_path / "ours", base_model="me/base", base_model_revision="v1")
    assert saved.kind == "adapter"
    assert before == {name: config.to_dict() for name, config in model.peft_config.items()}
    model.save_pretrained(tmp_path / "theirs")

    theirs = {name: data for name, data in contents(tmp_path / "theirs").items() if name != "README.md"}
    ours = contents(saved.path)
    assert ours.keys() == theirs.keys() | {"perdure.json"}
    for name, data in theirs.items():
        if name.endswith(".safetensors"):
            assert ours[name] == data
        else:
            expected = json.loads(data) | {"base_model_name_or_path": "me/base", "revision": "v1"}
            if isinstance(expected.get("target_modules"), list):  # a set in PEFT, written in no certain order
                expected["target_modules"].sort()
            assert json.loads(ours[name]) == expected

    again = PeftModel.from_pretrained(llama(tie_word_embeddings=kind.startswith("tied")), saved.path).eval()
    if kind == "two-adapters":
        again.load_adapter(saved.path / "second", "second")
    assert torch.equal(again(INPUTS).logits, logits)


def test_a_plain_module_under_peft(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
    perdure.save_model(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


def test_adapters_that_transformers_attached(tmp_path: Path) -> None:
    model = llama()
    model.add_adapter(lora())
    model.save_pretrained(tmp_path / "theirs")
    saved = perdure.save_model(model, tmp_path / "ours")
    assert saved.kind == "adapter"
    ours, theirs = (load_file(tmp_path / side / "adapter_model.safetensors") for side in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = llama()
    again.load_adapter(str(saved.path))
    assert torch.equal(again(INPUTS).logits, model(INPUTS).logits)

    model.add_adapter(lora(), adapter_name="second")
    model.set_adapter(["default", "second"])
    with pytest.raises(perdure.InvalidInput, match="2 adapters are active"):
        perdure.save_model(model, tmp_path / "both")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model in the layout of the Hub's cache."""
    snapshot = tmp_path / "models--me--base/snapshots" / ("ab" * 20)
    llama().save_pretrained(snapshot)
    return snapshot


def from_folder(folder: Path, config: Any = None) -> PeftModel:
    from transformers import LlamaForCausalLM

    return get_peft_model(LlamaForCausalLM.from_pretrained(folder), config or lora()).eval()


def recorded(folder: Path) -> tuple[str | None, str | None]:
    config = json.loads((folder / "adapter_config.json").read_bytes())
    return config["base_model_name_or_path"], config["revision"]


def test_the_base_s_id_is_never_a_path(base: Path, tmp_path: Path) -> None:
    local = tmp_path / "my-base"
    llama().save_pretrained(local)
    model = from_folder(local)
    saved = perdure.save_model(model, tmp_path / "out")
    assert recorded(saved.path) == (None, None)
    assert "the base model is known only as a folder on this machine" in saved.warnings[0]
    assert str(tmp_path).encode() not in (saved.path / "adapter_config.json").read_bytes()

    given = perdure.save_model(model, tmp_path / "given", base_model="me/base", base_model_revision="v2")
    assert (recorded(given.path), given.warnings) == (("me/base", "v2"), ())

    cached = perdure.save_model(from_folder(base), tmp_path / "cached")
    assert (recorded(cached.path), cached.warnings) == (("me/base", "ab" * 20), ())

    with pytest.raises(perdure.InvalidInput, match="is not a model's id on the Hub"):
        perdure.save_model(model, tmp_path / "out", base_model=str(local))


def test_an_adapter_never_replaces_its_own_base(base: Path, tmp_path: Path) -> None:
    before = contents(base)
    (tmp_path / "link").symlink_to(base)
    for target in (base, tmp_path / "link"):
        with pytest.raises(perdure.InvalidInput, match="holds the base model of this adapter"):
            perdure.save_model(from_folder(base), target)
    assert contents(base) == before


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_vocabulary_that_grew_is_saved_without_asking_a_hub(
    offline: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    larger = LlamaForCausalLM.from_pretrained(base)
    larger.resize_token_embeddings(70)
    model = get_peft_model(larger, lora()).eval()
    saved = perdure.save_model(model, tmp_path / "out")
    names = load_file(saved.path / "adapter_model.safetensors")
    assert {name for name in names if "embed_tokens" in name or "lm_head" in name} == {
        "base_model.model.model.embed_tokens.weight",
        "base_model.model.lm_head.weight",
    }
    again = LlamaForCausalLM.from_pretrained(base)
    again.resize_token_embeddings(70)
    assert torch.equal(PeftModel.from_pretrained(again, saved.path).eval()(INPUTS).logits, model(INPUTS).logits)


def test_an_adapter_s_name_stays_in_the_folder(tmp_path: Path) -> None:
    model = wrapped(lora())
    model.add_adapter(str(tmp_path / "evil"), lora())
    with pytest.raises(perdure.InvalidInput, match="The adapter's name names its folder"):
        perdure.save_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_told(tmp_path: Path) -> None:
    model = wrapped(lora())
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad)[0, 0] = float("nan")
    saved = perdure.save_model(model, tmp_path / "out", base_model="me/base")
    assert len(saved.warnings) == 1
    assert "1 NaN" in saved.warnings[0]
