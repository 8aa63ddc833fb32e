"""The settings of a run that a reader needs to repeat it: not where it wrote, logged or published, and no secrets."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from perdure.card.allowed import is_here, is_sayable, is_setting
from perdure.card.numbers import plain
from perdure.card.training import Scalar

_ALWAYS = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "per_device_train_batch_size",
    "gradient_accumulation_steps", "num_train_epochs", "max_steps", "seed",
)  # fmt: skip
_NOT_TRAINING = re.compile(
    r"(output|logging|log|save|hub|push|report|run|trackio|eval|do|dataloader|ddp|fsdp|deepspeed|resume|vllm_server"
    r"|vllm_group|restore|ignore|skip|load_best|metric_for|greater_is|include_for|batch_eval|prediction|per_device_eval"
    r"|auto_find|torch_empty|enable_jit|transformers_continuous)_.*"
    r"|.*(_dir|_path|_file|_url|_host|_repo|_key|_kwargs|_num_proc|_config)|.*(secret|password|credential).*"
    r"|project|debug|disable_tqdm|local_rank|use_cpu|use_cache|trust_remote_code|label_names|remove_unused_columns"
    r"|deepspeed|fsdp|num_completions_to_print"
)
_RENAMED = {"gradient_checkpointing": "activation_checkpointing"}  # old → new; transformers 5.23 has both
_NOT_ADAPTER = frozenset({
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "megatron_config", "megatron_core", "loftq_config", "tokenizer_name_or_path",
})  # fmt: skip
_MAX_LENGTH = 200  # characters; longer values are data, not settings


def hyperparameters(args: Any) -> dict[str, Scalar]:
    """Hyperparameters: those every reader asks for first, then all that differ from the defaults of their class."""
    defaults = _defaults(args)
    every = {field.name: getattr(args, field.name) for field in dataclasses.fields(args)}
    for old, new in _RENAMED.items():
        if new in every:
            every.pop(old, None)
    if (every.get("max_steps") or -1) > 0:
        every.pop("num_train_epochs", None)  # steps decide, then
    else:
        every.pop("max_steps", None)
    names = [name for name in _ALWAYS if name in every]
    names += [
        name
        for name, value in every.items()
        if name not in names and not _NOT_TRAINING.fullmatch(name) and _plain(value) != _plain(defaults.get(name))
    ]
    found = shown((_known_as(name, every[name]), every[name]) for name in names)
    if args.world_size > 1:
        found["world_size"] = args.world_size
    return found


def adapter_settings(model: Any) -> dict[str, Scalar]:
    """The settings of a model's adapter (the first, where it has several) that differ from their defaults."""
    config = next(iter(model.peft_config.values()))
    defaults = _defaults(config)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    values["target_modules"] = _targets(model, values.get("target_modules"))
    kept = {"r", "lora_alpha", "lora_dropout"}
    return shown(
        (name, value)
        for name, value in values.items()
        if name not in _NOT_ADAPTER and (name in kept or _plain(value) != _plain(defaults.get(name)))
    )


def _targets(model: Any, named: Any) -> Any:
    """The modules that an adapter is in; by the ends of their names where those tell as much and the names are long."""
    if not isinstance(named, (set, list, tuple)) or len(", ".join(map(str, named))) <= _MAX_LENGTH:
        return named
    ends = {str(name).rpartition(".")[2] for name in named}
    meant = [module for name, module in model.named_modules() if name.rpartition(".")[2] in ends]
    return ends if all(hasattr(module, "base_layer") for module in meant) else named


def _known_as(name: str, value: Any) -> str:
    """What a reader takes the value for: a Trainer's `warmup_steps` below one is a share of all steps."""
    is_share = name == "warmup_steps" and isinstance(value, float) and 0 < value < 1
    return "warmup_ratio" if is_share else name


def shown(items: Iterable[tuple[Any, Any]]) -> dict[str, Scalar]:
    """Of settings by name, those that have a short form and hold neither a secret nor a path."""
    plain = ((name, _plain(value)) for name, value in items)
    return {name: value for name, value in plain if value is not None and _may_be_shown(name, value)}


def _may_be_shown(name: object, value: Scalar) -> bool:
    if not isinstance(name, str) or not is_setting(name, value):
        return False
    return not isinstance(value, str) or (len(value) <= _MAX_LENGTH and not is_here(value))


def _plain(value: Any) -> Scalar | None:
    """A value as a card can show it; None for what has no short form."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        short = all(isinstance(item, int) or is_sayable(item) for item in value)
        return ", ".join(map(str, value)) if value and short else None
    return value if isinstance(value, (bool, str)) else plain(value)


def _defaults(record: Any) -> Mapping[str, Any]:
    return {
        field.name: field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        for field in dataclasses.fields(record)
    }
