"""What a fine-tuned model needs so that it generates well: where to stop, how to pad, and its KV cache.

Training leaves two things behind that inference must not inherit. The tokenizer's EOS may be another one than the
base model's (a chat template ends its turns with its own token), so generation would run on without an end. And the
Trainer switches the KV cache off, so every generated token would recompute all that went before.

The two are mended differently, because a live model may go on training:

- `align_special_tokens` changes the live model, as the Trainer's own alignment does. It only adds, so doing it
  twice changes nothing more.
- `kv_cache_enabled` changes the model for the length of a `with` block, in which it is saved, and then puts
  back what training had set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any


def align_special_tokens(model: Any, processor: Any) -> None:
    """Make the model's configuration stop at the tokenizer's EOS, and pad as the tokenizer does.

    `generation_config.eos_token_id` gains the tokenizer's EOS in front of those it has: any of them ends a
    generation, so none is taken away. `config.eos_token_id` (and that of a nested text configuration) gains it where
    it is a list, and becomes it where it is a single id, which is all that some architectures and readers accept.
    A missing `pad_token_id` is filled in; one that is set stays.

    Args:
        model: A transformers model, or one that PEFT wraps. Without a `config`, nothing is done.
        processor: A tokenizer, a multimodal processor that holds one, or None.
    """
    tokenizer = tokenizer_of(processor)
    eos, pad = (getattr(tokenizer, name, None) for name in ("eos_token_id", "pad_token_id"))
    generation_config = getattr(model, "generation_config", None)
    for config in _configs(model):
        if isinstance(eos, int) and hasattr(config, "eos_token_id"):
            several = isinstance(config.eos_token_id, (list, tuple))
            _assign(config, "eos_token_id", _including(eos, config.eos_token_id) if several else eos)
        _fill(config, "pad_token_id", pad)
    if generation_config is not None:
        if isinstance(eos, int):
            _assign(generation_config, "eos_token_id", _including(eos, generation_config.eos_token_id))
        _fill(generation_config, "pad_token_id", pad)


@contextmanager
def kv_cache_enabled(model: Any) -> Iterator[None]:
    """Within the block, `use_cache` is true wherever the model has that setting; afterwards it is as before.

    `config`, a nested text configuration and `generation_config` are covered. A model that keeps no cache, whose
    configuration the Trainer gave a `use_cache` all the same, is left alone.
    """
    generates = _can_generate(model)
    holders = [
        config
        for config in _configs(model)
        if hasattr(type(config), "use_cache") or (generates and hasattr(config, "use_cache"))
    ]
    generation_config = getattr(model, "generation_config", None)
    if generation_config is not None and generates:
        holders.append(generation_config)
    with ExitStack() as put_back:
        for holder in holders:
            put_back.callback(setattr, holder, "use_cache", holder.use_cache)
            holder.use_cache = True
        yield


def tokenizer_of(processor: Any) -> Any | None:
    """The tokenizer in a multimodal processor, the tokenizer itself, or None where there is none."""
    tokenizer = getattr(processor, "tokenizer", processor)
    return tokenizer if hasattr(tokenizer, "eos_token_id") else None


def _configs(model: Any) -> list[Any]:
    config = getattr(model, "config", None)
    if config is None or isinstance(config, dict):
        return []
    try:
        nested = config.get_text_config() if hasattr(config, "get_text_config") else config
    except ValueError:  # several text configurations (MusicGen): which one generates is not ours to guess
        nested = config
    return [config] if nested is config else [config, nested]


def _can_generate(model: Any) -> bool:
    can_generate = getattr(model, "can_generate", None)
    return bool(can_generate()) if callable(can_generate) else False


def _including(eos: int, present: int | Sequence[int] | None) -> int | list[int]:
    ids = [] if present is None else [present] if isinstance(present, int) else list(present)
    if eos in ids:
        return ids if isinstance(present, Sequence) else eos
    return [eos, *ids] if ids else eos


def _fill(holder: Any, name: str, value: int | None) -> None:
    if isinstance(value, int) and hasattr(holder, name) and getattr(holder, name) is None:
        setattr(holder, name, value)


def _assign(holder: Any, name: str, value: int | list[int]) -> None:
    # An equal value stays untouched: a tuple that a configuration insists on must not become a list.
    present = getattr(holder, name)
    if (list(present) if isinstance(present, tuple) else present) != value:
        setattr(holder, name, value)
