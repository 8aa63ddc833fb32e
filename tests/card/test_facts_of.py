"""What is found of a model in a folder that another tool wrote, or a hostile hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from perdure.card.facts import BaseModel, Facts, License, Quantization
from perdure.card.folder import facts_of
from perdure.card.snippets import usage
from perdure.errors import InvalidInput, NotFound


def write(folder: Path, files: dict[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_the_facts_beside_a_model_are_its_facts(facts, tmp_path):
    write(tmp_path, {"card_facts.json": facts.to_json(), "config.json": {"architectures": ["Other"]}})
    assert facts_of(tmp_path) == facts


def test_weights_are_told_as_they_are_now_not_as_they_were_trained(facts, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(save({"w": np.zeros((2, 3), np.float16)}))
    adapter = replace(facts, weights=replace(facts.weights, kind="adapter", dtypes={"float32": 4}, parameters=4),
                      bases=(BaseModel(id="org/base", relation="adapter"),))  # fmt: skip
    write(
        tmp_path, {"card_facts.json": adapter.to_json(), "config.json": {"model_type": "llama"}, "tokenizer.json": {}}
    )
    found = facts_of(tmp_path)
    assert found.weights == replace(facts.weights, parameters=6, dtypes={"float16": 6}), "an adapter, merged since"
    assert found.bases[0].relation == "finetune" and found.training == facts.training


def test_an_adapter_that_peft_saved_and_trl_described(tmp_path):
    folder = write(
        tmp_path / "mine",
        {
            "adapter_config.json": {
                "peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"],
                "base_model_name_or_path": "org/base", "revision": "0a1b2c",
            },
            "README.md": "---\nlicense: mit\nlanguage: [en, no, zh-CN]\ntags: [dpo]\ndatasets: org/data\n---\n# x\n",
            "trainer_state.json": {
                "global_step": 2, "epoch": 1.0, "log_history": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, 7],
            },
            "all_results.json": {"train_loss": 1.5, "eval_loss": 0.5, "eval_runtime": 3, "train_runtime": 9.0},
            "chat_template.jinja": "",
        },
    )  # fmt: skip
    found = facts_of(folder)
    assert found.bases == (BaseModel(id="org/base", revision="0a1b2c", relation="adapter"),)
    assert (found.name, found.weights.kind, found.weights.chat) == ("mine", "adapter", True)
    assert (
        found.license == License(id="mit")
        and found.languages == ("en", "no", "zh")
        and found.dataset_ids == ("org/data",)
    )
    assert found.training is not None and found.training.adapter["target_modules"] == "q_proj, v_proj"
    assert (found.training.steps, found.training.seconds, found.training.results) == (2, 9.0, {"train_loss": 1.5})
    assert found.training.history == {"loss": ((1, 2.0), (2, 1.0))}
    assert [dict(measured.metrics) for measured in found.evaluation] == [{"eval_loss": 0.5}]


def test_no_revision_leads_out_of_the_hubs_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "models--org--base" / "snapshots" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "README.md").write_text("---\nlicense: mit\n---\n")
    adapter = {"base_model_name_or_path": "org/base", "revision": "a/../../../../elsewhere"}
    found = facts_of(write(tmp_path / "mine", {"adapter_config.json": adapter}))
    assert found.license is None and found.bases == (BaseModel(id="org/base", relation="adapter"),)


def test_the_lines_that_load_a_model_name_what_is_in_the_folder(tmp_path):
    def usage_of(name: str, files: dict[str, object], weights: str) -> str:
        folder = write(tmp_path / name, files)
        (folder / weights).write_bytes(save({"w": np.zeros((2, 3), np.float16)}))
        return usage(facts_of(folder))

    adapter = {"adapter_config.json": {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "a/b"}}
    assert 'AutoTokenizer.from_pretrained("a/b")' in usage_of("plain_peft", adapter, "adapter_model.safetensors")
    assert 'load_file("weights.safetensors")' in usage_of("module", {}, "weights.safetensors")
    assert not usage_of("pickled", {}, "pytorch_model.bin")
    config = {"model_type": "x", "architectures": ["class"], "auto_map": {"AutoModelForCausalLM": "code.Mine"}}
    assert not usage_of("own", {"config.json": config}, "model.safetensors")
    config["architectures"], tokens = ["MineForCausalLM"], {"tokenizer.json": {}}
    assert 'model=".", trust_remote_code=True)' in usage_of(
        "chatty", {"config.json": config, **tokens}, "model.safetensors"
    )


def test_a_merge_by_mergekit(tmp_path):
    sources = "  - model: org/a\n  - model: org/b\n  - model: ./c\n"
    recipe = f"merge_method: slerp\nbase_model: org/a\nslices:\n- sources:\n{sources}"
    write(tmp_path, {"config.json": {"model_type": "llama"}, "mergekit_config.yml": recipe})
    assert facts_of(tmp_path).bases == tuple(BaseModel(id=name, relation="merge") for name in ("org/a", "org/b"))


def test_a_quantized_model(tmp_path):
    packing = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "quantization_config": packing}
    write(tmp_path, {"config.json": config, "README.md": "---\nbase_model: org/a\n---\n"})
    found = facts_of(tmp_path)
    assert found.weights.quantization == Quantization(method="bitsandbytes nf4", bits=4)
    assert found.base == BaseModel(id="org/a", relation="quantized") and found.weights.pipeline_tag == "text-generation"


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(InvalidInput, match="no model"):
        facts_of(tmp_path)
    with pytest.raises(NotFound, match="no folder"):
        facts_of(tmp_path / "nowhere")


_HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from(["/etc/passwd", "hf_" + "a" * 30, "org/x", "a\n---\nb: 1", "<script>"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
_KEYS = (
    "architectures", "model_type", "quantization_config", "quant_method", "load_in_4bit", "bits", "r", "target_modules",
    "base_model_name_or_path", "revision", "log_history", "global_step", "epoch", "train_loss", "eval_loss",
    "num_input_tokens_seen", "base_model", "license", "license_name", "license_link", "language", "tags", "datasets",
    "train_runtime", "model",
)  # fmt: skip
_NAMES = (
    "config.json",
    "adapter_config.json",
    "trainer_state.json",
    "all_results.json",
    "README.md",
    "mergekit_config.yml",
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(_NAMES), st.dictionaries(st.sampled_from(_KEYS), _HOSTILE, max_size=6), min_size=1)
)
def test_whatever_the_files_say_the_facts_say_what_a_card_may_say(tmp_path, contents):
    for file in tmp_path.iterdir():
        file.unlink()
    for name, content in contents.items():
        text = json.dumps(content)
        write(tmp_path, {name: f"---\n{text}\n---\n" if name == "README.md" else text})
    try:
        found = facts_of(tmp_path)
    except InvalidInput as error:
        assert "no model" in str(error)
        return
    said = found.to_json()
    assert "/etc/" not in said and "hf_aaa" not in said
    assert Facts.from_json(said).to_json() == said


def test_numbers_that_are_none_are_left_out(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "x"}')
    far = f'{{"step": 1, "loss": {"9" * 400}}}, {{"step": 1, "loss": 1e308}}, {{"step": 2, "loss": -1e308}}'
    state = f'{{"global_step": Infinity, "epoch": -1, "num_input_tokens_seen": NaN, "log_history": [{far}]}}'
    (tmp_path / "trainer_state.json").write_text(state)
    (tmp_path / "all_results.json").write_text(f'{{"train_runtime": NaN, "train_loss": {"9" * 400}, "eval_loss": 0.5}}')
    facts = facts_of(tmp_path)
    assert facts.training is None and facts.evaluation[0].metrics == {"eval_loss": 0.5}
