"""Which names a file in a model folder may have, and which mean something to the ecosystem's readers."""

from __future__ import annotations

import re

MANIFEST = "perdure.json"
CARD = "README.md"
FACTS = "card_facts.json"
TEMPLATES = "additional_chat_templates"
STAGING_PREFIX = ".perdure-"
TRAINING_STATE = "training_state"
OUTBOX = ".perdure/outbox"
WRITER_LOCK = ".perdure/writer.lock"

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED_WEIGHTS = "pytorch_model.bin"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED_ADAPTER_WEIGHTS = "adapter_model.bin"
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
_TEMPLATE = re.compile(rf"{TEMPLATES}/[^/]+\.jinja")
# Servers take every file of these endings for weights or vocabulary.
_BY_ENDING = re.compile(r".*\.(safetensors|bin|pt|model|jinja)|.*\.index\.json")
_WEIGHTS_BY_ENDING = re.compile(r".*\.(safetensors|gguf|onnx)|.*\.(safetensors|bin)\.index\.json")
# What a training run leaves beside a model: pickles, some with a token in clear, and state no reader of it needs.
_TRAINING_STATE = re.compile(
    r"training_args\.(bin|pt)|trainer_state\.json|(optimizer|scheduler|scaler|rng_state)[\w.-]*|events\.out\.tfevents.*"
)
# All that model repositories hold besides weights and what is listed above, by the names their programs gave it.
_WELL_KNOWN = re.compile(
    r"[\w-]+_config\.json|[\w.-]+\.(jinja|tiktoken|spm|model)|([\w-]+[_-])?vocab([_-][\w-]+)?\.(json|txt|bpe)"
    r"|(normalizer|tekken|params|modules|model_index|config_sentence_transformers)\.json|dict\.txt|bpe\.codes"
    r"|((all|train|eval)_results|card_facts)\.json|[\w.-]+\.onnx[._]data"
    r"|README\.md|(LICEN[SC]E|NOTICE|COPYING|USE_POLICY)(\.(md|txt))?|CITATION\.cff"
)
_MODEL_SUFFIXES = (".json", ".jinja", ".model", ".tiktoken", ".txt", ".md", ".py", ".yaml", ".png", ".jpg", ".svg")
_MODEL_NAMES = frozenset({"LICENSE", "NOTICE", "USE_POLICY"})


def is_weights(name: str) -> bool:
    """Whether a loader would take a top-level file of this name for weights, or for their index.

    >>> is_weights("model-00001-of-00002.safetensors"), is_weights("training_args.bin")
    (True, False)
    """
    return _WEIGHTS.fullmatch(name) is not None


def holds_weights(name: str) -> bool:
    """Whether a top-level file of this name is weights, or their index, for whichever program.

    >>> holds_weights("model-Q4_K_M.gguf"), is_weights("model-Q4_K_M.gguf")
    (True, False)
    """
    return not is_training_state(name) and (is_weights(name) or _WEIGHTS_BY_ENDING.fullmatch(name) is not None)


def is_tokenizer(name: str) -> bool:
    """Whether a loader would read this path as part of a tokenizer or processor."""
    return name in _TOKENIZER or _TEMPLATE.fullmatch(name) is not None


def is_training_state(name: str) -> bool:
    """Whether a top-level file of this name is a training run's own state, which no reader of the model needs.

    >>> is_training_state("optimizer_0.bin"), is_training_state("tokenizer.json")
    (True, False)
    """
    return _TRAINING_STATE.fullmatch(name) is not None


def is_for_resuming(path: str) -> bool:
    """Whether a file of a checkpoint of ours is there for resuming alone.

    >>> [name for name in ("training_state/rng.json", "trainer_state.json", "config.json") if is_for_resuming(name)]
    ['training_state/rng.json', 'trainer_state.json']
    """
    return path.startswith(f"{TRAINING_STATE}/") or path == "trainer_state.json"


def is_read_by_loaders(name: str) -> bool:
    """Whether a loader of models might read a file at this path of a model folder."""
    if is_weights(name) or is_tokenizer(name) or name in (CONFIG, GENERATION_CONFIG, ADAPTER_CONFIG):
        return True
    return "/" not in name and not is_training_state(name) and _BY_ENDING.fullmatch(name) is not None


def is_well_known(name: str) -> bool:
    """Whether the ecosystem knows a file of this name as part of a model; no person calls notes or a key so.

    >>> [name for name in ("qwen.tiktoken", "generation_config.json", "secrets.json", "hf_token.txt", "train.py")
    ...  if is_well_known(name)]
    ['qwen.tiktoken', 'generation_config.json']
    """
    if name.startswith(".") or is_training_state(name):
        return False
    if name == CONFIG or is_tokenizer(name):
        return True
    return "/" not in name and (holds_weights(name) or _WELL_KNOWN.fullmatch(name) is not None)


def belongs_to_model(name: str) -> bool:
    """Whether a file that a save wrote at this path, beside training state perhaps, is part of the model.

    Never hidden files, training state, pickles other than weights, or what lies in folders, but for chat templates.

    >>> [name for name in ("model.safetensors", "vocab.txt", "data.pkl", "checkpoint-5/model.safetensors")
    ...  if belongs_to_model(name)]
    ['model.safetensors', 'vocab.txt']
    """
    if "/" in name:
        return _TEMPLATE.fullmatch(name) is not None
    if name.startswith(".") or is_training_state(name):
        return False
    return holds_weights(name) or name.endswith(_MODEL_SUFFIXES) or name in _MODEL_NAMES


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
