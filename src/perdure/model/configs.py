"""Configurations beside the weights: fit for inference, valid, and never the reason why weights are not saved."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from perdure.format.names import CONFIG, GENERATION_CONFIG
from perdure.model.inference import align_special_tokens, kv_cache_enabled

# Settings that greedy decoding ignores, and that validation therefore refuses beside `do_sample=False`.
_SAMPLING_ONLY = (
    "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
)  # fmt: skip
_BEAMS_ONLY = ("early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty", "constraints")


def write_transformers_configs(model: Any, folder: Path, tokenizer: Any) -> list[str]:
    """Write `config.json`, `generation_config.json` and custom code as they should be for inference.

    The model's own configurations stay as they are: EOS alignment and the KV cache are set on copies.

    Returns:
        What was repaired, or written though it is not valid.
    """
    ready = SimpleNamespace(
        config=copy.deepcopy(model.config),
        generation_config=copy.deepcopy(getattr(model, "generation_config", None)),
        can_generate=model.can_generate,
    )
    align_special_tokens(ready, tokenizer)
    ready.config.dtype = str(model.dtype).removeprefix("torch.")
    ready.config.architectures = [type(model).__name__.removeprefix("FSDP")]
    warnings = _write_code(model, ready.config, folder)
    with kv_cache_enabled(ready):
        warnings += _write_config(ready.config, folder)
        if ready.generation_config is not None and model.can_generate():
            warnings += write_generation_config(ready.generation_config, folder)
    return warnings


def _write_code(model: Any, config: Any, folder: Path) -> list[str]:
    """Copy the module that defines a model of the user's own, and note its class in `config`."""
    if model._auto_class is None:
        return []
    from transformers.dynamic_module_utils import custom_object_save

    name = type(model).__name__
    source = getattr(sys.modules.get(type(model).__module__), "__file__", None)
    if type(model).__module__ == "__main__" or source is None or not Path(source).is_file():
        return [f"the code of {name} is in no module of its own, so it was not saved; loading needs the class at hand"]
    custom_object_save(model, folder, config=config)
    return []


def _write_config(config: Any, folder: Path) -> list[str]:
    try:
        config.save_pretrained(folder)
    except (ValueError, TypeError) as error:
        config.to_json_file(folder / CONFIG, use_diff=True)
        return [f"{CONFIG} is not valid ({_in_short(error)}); it was written as it is"]
    return []


def write_generation_config(config: Any, folder: Path) -> list[str]:
    """Write `generation_config.json`; one that is not valid is repaired where its meaning allows, and told of.

    Settings that do nothing (a temperature beside greedy decoding) are taken out: generation stays what it was.
    """
    try:
        config.save_pretrained(folder)
        return []
    except ValueError as error:
        reason = _in_short(error)
    idle = (() if config.do_sample else _SAMPLING_ONLY) + (() if (config.num_beams or 1) > 1 else _BEAMS_ONLY)
    default = type(config)()
    removed = {}
    for name in idle:
        if getattr(config, name, None) != getattr(default, name, None):
            removed[name] = getattr(config, name)
            setattr(config, name, getattr(default, name, None))
    try:
        config.save_pretrained(folder)
    except ValueError as error:
        for name, value in removed.items():
            setattr(config, name, value)
        config.to_json_file(folder / GENERATION_CONFIG, use_diff=True)
        return [f"{GENERATION_CONFIG} is not valid ({_in_short(error)}); it was written as it is"]
    settings = ", ".join(f"{name}={value}" for name, value in removed.items())
    return [f"{GENERATION_CONFIG} was not valid ({reason}); removed settings that had no effect: {settings}"]


def module_config(config: object) -> tuple[bytes | None, list[str]]:
    """A plain module's `config` as JSON, whatever it is made of; a warning where it cannot be written."""
    if config is None:
        return None, []
    to_dict = getattr(config, "to_dict", None)
    try:
        if isinstance(config, Mapping):
            document = dict(config)
        elif callable(to_dict):
            document = to_dict()
        elif dataclasses.is_dataclass(config) and not isinstance(config, type):
            document = dataclasses.asdict(config)
        else:
            document = vars(config)
        return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode(), []
    except (TypeError, ValueError) as error:
        return None, [f"the module's config cannot be written as JSON ({_in_short(error)}); only weights were saved"]


def is_transformers_config(path: Path) -> bool:
    """Whether a `config.json` is a transformers model's, and not a file of somebody else's of the same name."""
    try:
        if not path.is_file():  # a pipe would be waited for, a device read for ever
            return False
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and ("model_type" in document or "architectures" in document)


def _in_short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
