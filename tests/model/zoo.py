"""Small random models of many architectures: transformers' own classes built from configurations, no download."""

from __future__ import annotations

from typing import Any

import torch

_SMALL: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_ENCODER: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64,
}  # fmt: skip
_SEQ2SEQ: dict[str, Any] = {
    "vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
_VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 16,
}  # fmt: skip
_SPEECH: dict[str, Any] = {
    **_ENCODER, "conv_dim": (8, 8), "conv_stride": (2, 2), "conv_kernel": (4, 4), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
_TEXT: dict[str, Any] = {**_SMALL, "model_type": "llama"}
_EXPERTS: dict[str, Any] = {**_SMALL, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}

# name → (model class, configuration class, its settings)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    # decoders
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**_SMALL, "tie_word_embeddings": False}),
    "llama-tied": ("LlamaForCausalLM", "LlamaConfig", {**_SMALL, "tie_word_embeddings": True}),
    "mistral": ("MistralForCausalLM", "MistralConfig", _SMALL),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**_SMALL, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**_SMALL, "head_dim": 8}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {**_SMALL, "head_dim": 8}),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", {**_SMALL, "head_dim": 8}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", _SMALL),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {
        "vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
    }),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _SMALL),
    "opt": ("OPTForCausalLM", "OPTConfig", {**_SMALL, "ffn_dim": 48, "word_embed_proj_dim": 16}),
    "bloom": ("BloomForCausalLM", "BloomConfig", {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": ("FalconForCausalLM", "FalconConfig", _SMALL),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", _SMALL),
    "granite": ("GraniteForCausalLM", "GraniteConfig", _SMALL),
    "starcoder2": ("Starcoder2ForCausalLM", "Starcoder2Config", _SMALL),
    "cohere": ("CohereForCausalLM", "CohereConfig", _SMALL),
    "stablelm": ("StableLmForCausalLM", "StableLmConfig", _SMALL),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", _SMALL),
    "glm4": ("Glm4ForCausalLM", "Glm4Config", {**_SMALL, "head_dim": 8}),
    # mixtures of experts, fused in memory and published one by one
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**_SMALL, "num_local_experts": 4}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", "Qwen2MoeConfig", {**_EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", {**_EXPERTS, "head_dim": 8}),
    "olmoe": ("OlmoeForCausalLM", "OlmoeConfig", _EXPERTS),
    "granitemoe": ("GraniteMoeForCausalLM", "GraniteMoeConfig", {**_SMALL, "num_local_experts": 4}),
    "gpt_oss": ("GptOssForCausalLM", "GptOssConfig", {**_SMALL, "head_dim": 8, "num_local_experts": 4}),
    "deepseek_v3": ("DeepseekV3ForCausalLM", "DeepseekV3Config", {
        **_SMALL, "num_key_value_heads": 4, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_group": 2,
        "topk_group": 1, "num_experts_per_tok": 2, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1,
    }),
    # encoders
    "bert": ("BertForMaskedLM", "BertConfig", _ENCODER),
    "bert-classifier": ("BertForSequenceClassification", "BertConfig", {**_ENCODER, "num_labels": 3}),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", _ENCODER),
    "electra": ("ElectraForPreTraining", "ElectraConfig", {**_ENCODER, "embedding_size": 16}),
    "deberta_v2": ("DebertaV2ForMaskedLM", "DebertaV2Config", {
        **_ENCODER, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
    }),
    "modernbert": ("ModernBertForMaskedLM", "ModernBertConfig", {**_ENCODER, "pad_token_id": 0}),
    "distilbert": ("DistilBertForMaskedLM", "DistilBertConfig", {
        "vocab_size": 64, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4,
    }),
    # encoder-decoders
    "t5": ("T5ForConditionalGeneration", "T5Config", {
        "vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    }),
    "bart": ("BartForConditionalGeneration", "BartConfig", _SEQ2SEQ),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", _SEQ2SEQ),
    "marian": ("MarianMTModel", "MarianConfig", _SEQ2SEQ),
    "pegasus": ("PegasusForConditionalGeneration", "PegasusConfig", _SEQ2SEQ),
    "m2m_100": ("M2M100ForConditionalGeneration", "M2M100Config", _SEQ2SEQ),
    # vision
    "vit": ("ViTForImageClassification", "ViTConfig", _VISION),
    "clip": ("CLIPModel", "CLIPConfig", {"text_config": _ENCODER, "vision_config": _VISION, "projection_dim": 16}),
    "siglip": ("SiglipModel", "SiglipConfig", {
        "text_config": {**_ENCODER, "projection_size": 32}, "vision_config": _VISION,
    }),
    "dinov2": ("Dinov2Model", "Dinov2Config", _VISION),
    "swin": ("SwinModel", "SwinConfig", {
        "image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4,
    }),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", {
        "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2,
    }),
    # audio
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig", {
        **_SEQ2SEQ, "num_mel_bins": 8, "max_source_positions": 32, "max_target_positions": 32, "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }),
    "wav2vec2": ("Wav2Vec2ForCTC", "Wav2Vec2Config", _SPEECH),
    "hubert": ("HubertForCTC", "HubertConfig", _SPEECH),
    # several modalities
    "llava": ("LlavaForConditionalGeneration", "LlavaConfig", {
        "text_config": _TEXT, "vision_config": {**_VISION, "model_type": "clip_vision_model"}, "image_token_index": 3,
    }),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", "Qwen2VLConfig", {
        "text_config": {**_SMALL, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1],
            "rope_theta": 1e4}},
        "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2},
    }),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLConfig", {
        "text_config": {**_SMALL, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1],
            "rope_theta": 1e4}},
        "vision_config": {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 4,
            "intermediate_size": 48},
    }),
    "paligemma": ("PaliGemmaForConditionalGeneration", "PaliGemmaConfig", {
        "text_config": {**_SMALL, "head_dim": 8, "model_type": "gemma"},
        "vision_config": {**_VISION, "model_type": "siglip_vision_model"}, "projection_dim": 32,
    }),
    "idefics3": ("Idefics3ForConditionalGeneration", "Idefics3Config", {
        "text_config": _TEXT, "vision_config": {**_VISION, "model_type": "idefics3_vision"}, "scale_factor": 1,
    }),
    "gemma3-vision": ("Gemma3ForConditionalGeneration", "Gemma3Config", {
        "text_config": {**_SMALL, "head_dim": 8}, "vision_config": _VISION, "mm_tokens_per_image": 4,
    }),
    # state spaces, recurrent and hybrid
    "mamba": ("MambaForCausalLM", "MambaConfig", {**_SMALL, "state_size": 4, "time_step_rank": 4}),
    "mamba2": ("Mamba2ForCausalLM", "Mamba2Config", {
        **_SMALL, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1,
    }),
    "falcon_mamba": ("FalconMambaForCausalLM", "FalconMambaConfig", {**_SMALL, "state_size": 4, "time_step_rank": 4}),
    "jamba": ("JambaForCausalLM", "JambaConfig", {
        **_SMALL, "num_experts": 4, "mamba_d_state": 4, "mamba_dt_rank": 4, "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
    }),
    "bamba": ("BambaForCausalLM", "BambaConfig", {
        **_SMALL, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1,
        "attn_layer_indices": [1],
    }),
    "recurrent_gemma": ("RecurrentGemmaForCausalLM", "RecurrentGemmaConfig", {
        **_SMALL, "head_dim": 8, "lru_width": 32,
    }),
}  # fmt: skip


def build(name: str) -> Any:
    """A model of that architecture, random but the same each time."""
    import transformers

    model_class, config_class, settings = ARCHITECTURES[name]
    torch.manual_seed(0)
    return getattr(transformers, model_class)(getattr(transformers, config_class)(**settings)).eval()
