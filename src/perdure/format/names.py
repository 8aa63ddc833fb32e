"""Which names a file in a model folder may have, and which mean something to the ecosystem's readers."""

from __future__ import annotations

import re

MANIFEST = "perdure.json"
STAGING_PREFIX = ".perdure-"

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"

_WEIGHTS = re.compile(
    r"(model|pytorch_model|adapter_model)(\.[\w-]+)?(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?"
    r"|(model|pytorch_model|adapter_model)\.(safetensors|bin)\.index(\.[\w-]+)?\.json"
)
_TOKENIZER = frozenset({
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja",
    "chat_template.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
})  # fmt: skip
# Servers take every file of these endings for weights or vocabulary, but for a Trainer's own state.
_BY_ENDING = re.compile(r".*\.(safetensors|bin|pt|model|jinja)|.*\.index\.json")
_TRAINER_STATE = re.compile(r"(training_args|optimizer|scheduler|scaler)\.(bin|pt)")


def is_weights(name: str) -> bool:
    """Whether a loader would take a top-level file of this name for weights, or for their index.

    >>> is_weights("model-00001-of-00002.safetensors"), is_weights("training_args.bin")
    (True, False)
    """
    return _WEIGHTS.fullmatch(name) is not None


def is_tokenizer(name: str) -> bool:
    """Whether a loader would read this path as part of a tokenizer or processor."""
    return name in _TOKENIZER or name.startswith("additional_chat_templates/")


def is_read_by_loaders(name: str) -> bool:
    """Whether a loader of models might read a file at this path of a model folder."""
    if "/" in name:
        return name.startswith("additional_chat_templates/")
    return (
        is_weights(name)
        or is_tokenizer(name)
        or name in (CONFIG, GENERATION_CONFIG, ADAPTER_CONFIG)
        or (_BY_ENDING.fullmatch(name) is not None and _TRAINER_STATE.fullmatch(name) is None)
    )


def check_name(name: str) -> str:
    """Return `name` if it is a plain relative path that stays in its folder; `ValueError` otherwise.

    >>> check_name("additional_chat_templates/tools.jinja")
    'additional_chat_templates/tools.jinja'
    """
    parts = name.split("/")
    if not name or len(name) > 1024 or any(part in ("", ".", "..") or len(part) > 255 for part in parts):
        raise ValueError(f"{name[:200]!r} is not a path within a folder")
    if any(ord(character) < 32 or character in "\\\x7f" for character in name):
        raise ValueError(f"{name[:200]!r} has characters that no file of a model has")
    return name
