from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Gemma3Config,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTModel,
)

from perdure.model.inference import align_special_tokens, kv_cache_enabled, tokenizer_of

EOS, PAD = 7, 8
TOKENIZER = SimpleNamespace(eos_token_id=EOS, pad_token_id=PAD)


def llama(**settings: object) -> LlamaForCausalLM:
    config = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, **settings}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=2, num_key_value_heads=1, **config))


@pytest.mark.parametrize(
    ("before", "config", "generation"),
    [
        (None, EOS, EOS),
        (EOS, EOS, EOS),
        (2, EOS, [EOS, 2]),
        ([2], [EOS, 2], [EOS, 2]),
        ([2, 3], [EOS, 2, 3], [EOS, 2, 3]),
        ([2, EOS], [2, EOS], [2, EOS]),
    ],
)
def test_eos_is_added_and_none_is_lost(before, config, generation):
    model = llama(eos_token_id=before)
    model.generation_config = GenerationConfig(eos_token_id=before)
    for _ in range(2):
        align_special_tokens(model, TOKENIZER)
        assert model.config.eos_token_id == config
        assert model.generation_config.eos_token_id == generation


def test_padding_is_filled_in_and_never_replaced():
    model = llama(pad_token_id=None)
    align_special_tokens(model, TOKENIZER)
    assert (model.config.pad_token_id, model.generation_config.pad_token_id) == (PAD, PAD)
    model = llama(pad_token_id=1)
    align_special_tokens(model, TOKENIZER)
    assert (model.config.pad_token_id, model.generation_config.pad_token_id) == (1, 1)


def test_a_nested_text_configuration_is_aligned_and_given_its_cache():
    model = SimpleNamespace(config=Gemma3Config(), generation_config=None, can_generate=lambda: True)
    text = model.config.text_config
    text.use_cache = False
    align_special_tokens(model, SimpleNamespace(tokenizer=TOKENIZER))
    assert text.eos_token_id == EOS
    with kv_cache_enabled(model):
        assert text.use_cache is True
    assert text.use_cache is False


def test_the_cache_is_on_within_the_block_only():
    model = llama()
    model.config.use_cache = model.generation_config.use_cache = False
    with pytest.raises(RuntimeError), kv_cache_enabled(model):
        assert model.config.use_cache is model.generation_config.use_cache is True
        raise RuntimeError
    assert model.config.use_cache is model.generation_config.use_cache is False


def test_models_without_a_cache_get_none():
    vision = ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
    vision.config.use_cache = False  # the Trainer sets it whatever the model
    with kv_cache_enabled(vision):
        assert vision.config.use_cache is False
    encoder = BertForSequenceClassification(
        BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    align_special_tokens(encoder, TOKENIZER)
    with kv_cache_enabled(encoder):
        assert encoder.config.use_cache is True


def test_what_has_no_configuration_is_left_alone():
    module = torch.nn.Linear(2, 2)
    align_special_tokens(module, TOKENIZER)
    with kv_cache_enabled(module):
        pass
    align_special_tokens(llama(), None)
    assert tokenizer_of(None) is None and tokenizer_of(SimpleNamespace(tokenizer=TOKENIZER)) is TOKENIZER


def test_several_text_configurations_cost_nothing() -> None:
    from transformers import MusicgenConfig, MusicgenDecoderConfig, T5Config
    from transformers.models.encodec import EncodecConfig

    config = MusicgenConfig(
        text_encoder=T5Config(d_model=8).to_dict(),
        audio_encoder=EncodecConfig().to_dict(),
        decoder=MusicgenDecoderConfig(hidden_size=8).to_dict(),
    )
    model = SimpleNamespace(config=config, generation_config=None, can_generate=lambda: True)
    align_special_tokens(model, None)
    with kv_cache_enabled(model):
        pass
    assert config.decoder.hidden_size == 8
