"""Tokenizers and processors travel whole, with nothing of this machine in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small import contents, llama, python, tokenizer

import perdure

MESSAGES = [{"role": "user", "content": "w1 w2"}]


def test_a_chat_template_and_its_variants(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tok = tokenizer()
    tok.chat_template = {"default": "{{ messages[0]['content'] }}", "tool_use": "tools {{ messages[0]['content'] }}"}
    saved = perdure.save_model(llama(), tmp_path / "out", tokenizer=tok)
    assert {"chat_template.jinja", "additional_chat_templates/tool_use.jinja", "tokenizer.json"} <= set(saved.files)
    again = AutoTokenizer.from_pretrained(saved.path)
    for name in ("default", "tool_use"):
        rendered = again.apply_chat_template(MESSAGES, chat_template=name, tokenize=False)
        assert rendered == tok.apply_chat_template(MESSAGES, chat_template=name, tokenize=False)
    assert again("w1 w2 w59").input_ids == tok("w1 w2 w59").input_ids
    assert perdure.verify(saved.path).ok


def test_nothing_of_this_machine_stays(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer().save_pretrained(tmp_path / "local")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "local", local_files_only=True)
    perdure.save_model(llama(), tmp_path / "out", tokenizer=loaded)
    config = json.loads((tmp_path / "out/tokenizer_config.json").read_bytes())
    assert not {"is_local", "local_files_only", "name_or_path"} & config.keys()
    for name, data in contents(tmp_path / "out").items():
        assert str(tmp_path).encode() not in data, name


def test_a_tokenizer_replaces_the_former_one_only_if_one_is_given(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    out = tmp_path / "out"
    tokenizer().save_pretrained(out)  # by hand, so no manifest knows it
    (out / "special_tokens_map.json").write_text("{}")
    perdure.save_model(llama(), out)
    assert AutoTokenizer.from_pretrained(out)("w1").input_ids == tokenizer()("w1").input_ids
    perdure.save_model(llama(), out, tokenizer=tokenizer())
    assert not (out / "special_tokens_map.json").exists()


def test_a_processor(tmp_path: Path) -> None:
    from transformers import AutoProcessor

    processor = make_processor()
    saved = perdure.save_model(llama(), tmp_path / "out", tokenizer=processor)
    assert "processor_config.json" in saved.files
    assert "tokenizer.json" in saved.files
    again = AutoProcessor.from_pretrained(saved.path)
    assert type(again) is type(processor)
    assert again.tokenizer("w1 w2").input_ids == processor.tokenizer("w1 w2").input_ids
    assert again.chat_template == processor.chat_template


def make_processor() -> Any:
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Processor

    return Wav2Vec2Processor(feature_extractor=Wav2Vec2FeatureExtractor(), tokenizer=tokenizer())


def test_eos_and_cache_are_fit_for_inference_and_the_live_model_is_as_it_was(tmp_path: Path) -> None:
    model, tok = llama(), tokenizer()
    model.config.use_cache = False
    model.generation_config.eos_token_id = [7, 8]
    model.config.pad_token_id = model.generation_config.pad_token_id = None
    live = model.config.to_dict(), model.generation_config.to_dict()
    saved = perdure.save_model(model, tmp_path / "out", tokenizer=tok)
    assert (model.config.to_dict(), model.generation_config.to_dict()) == live
    config = json.loads((saved.path / "config.json").read_bytes())
    generation = json.loads((saved.path / "generation_config.json").read_bytes())
    assert generation["eos_token_id"] == [tok.eos_token_id, 7, 8]
    assert generation["pad_token_id"] == tok.pad_token_id
    assert config["use_cache"] is True
    assert config["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("where", ["module", "main"])
def test_custom_code_travels_with_the_model(where: str, tmp_path: Path) -> None:
    source = """
import torch
from transformers import PretrainedConfig, PreTrainedModel

class MineConfig(PretrainedConfig):
    model_type = "mine"
    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width

class MineModel(PreTrainedModel):
    config_class = MineConfig
    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(config.width, config.width)
        self.post_init()
    def forward(self, x):
        return self.layer(x)
"""
    register = """
import perdure, torch
MineConfig.register_for_auto_class()
MineModel.register_for_auto_class("AutoModel")
torch.manual_seed(0)
saved = perdure.save_model(MineModel(MineConfig(width=3)), sys.argv[1])
print(len(saved.warnings))
"""
    (tmp_path / "modeling_mine.py").write_text(source)
    code = f"sys.path.insert(0, {str(tmp_path)!r}); from modeling_mine import *" if where == "module" else source
    run = python(code + register, tmp_path / "out")
    assert run.returncode == 0, run.stderr
    (tmp_path / "modeling_mine.py").unlink()
    if where == "main":
        assert run.stdout == "1\n"
        assert (tmp_path / "out/model.safetensors").exists()
        return
    assert run.stdout == "0\n"
    reload = """
import perdure, torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(model).__name__ == "MineModel" and model.config.width == 3
saved = perdure.save_model(model, sys.argv[2])
assert "modeling_mine.py" in saved.files and not saved.warnings, saved
again = AutoModel.from_pretrained(sys.argv[2], trust_remote_code=True)
assert torch.equal(again.layer.weight, model.layer.weight)
"""
    cache = {"HF_HOME": str(tmp_path / "home")}
    run = python(reload, tmp_path / "out", tmp_path / "again", through=["env", *(f"{k}={v}" for k, v in cache.items())])
    assert run.returncode == 0, run.stderr
