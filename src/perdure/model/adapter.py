"""Adapters: what PEFT trained, without the base it was trained on. The only file that imports peft."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.errors import InvalidInput
from perdure.format.hub_id import hub_id
from perdure.format.names import check_name
from perdure.model.tensors import check_storable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """One adapter to write.

    `folder` is its place within the saved folder: "" for the one that PEFT loads by default, its name otherwise.
    """

    folder: str
    tensors: dict[str, torch.Tensor]
    config: Any
    auto_mapping: dict[str, str] | None


def is_peft_model(model: Any) -> bool:
    """Whether `model` is PEFT's own wrapper, without importing peft for one that is not."""
    return any(base.__name__ == "PeftModel" and base.__module__.startswith("peft.") for base in type(model).mro())


def has_adapters(model: Any) -> bool:
    """Whether a transformers model carries adapters that transformers itself attached (`add_adapter`)."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def adapters_of(model: Any, *, with_base_embeddings: bool = True) -> Iterator[Adapter]:
    """Every adapter of a PEFT model, as PEFT's own `save_pretrained` would write it; the model is left as it is.

    Args:
        with_base_embeddings: As PEFT does, add the base's embeddings, unchanged, to an adapter that is on them.
    """
    for name, config in model.peft_config.items():
        folder = "" if name == "default" else name
        _check_folder(folder)
        tensors = _state_of(model, name, config, with_base_embeddings)
        check_storable(tensors)
        yield Adapter(
            folder=folder,
            tensors=tensors,
            config=_inference_config(config),
            auto_mapping=_auto_mapping(model, config),
        )


def _check_folder(name: str) -> None:
    try:
        check_name(name or "default")
    except ValueError as error:
        raise InvalidInput(f"The adapter's name names its folder, but {error}; nothing was written.") from error


def _state_of(model: Any, name: str, config: Any, with_base_embeddings: bool = True) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    # PEFT would ask the Hub whether the vocabulary has grown since; what it would learn is known on this machine.
    embeddings = True if _vocabulary_resized(model, config) else "auto" if with_base_embeddings else False
    with _nameless(config):
        state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=embeddings)
    # Quantization keeps notes as text among the tensors, which belong to the base.
    return {key: value for key, value in state.items() if not isinstance(value, str)}


def _vocabulary_resized(model: Any, config: Any) -> bool:
    """Whether the model's vocabulary is another one than its base's: then the adapter is of no use without it."""
    current: Any = getattr(model, "config", None)
    if not (config.base_model_name_or_path and hasattr(current, "get_text_config")):
        return False
    try:
        base = current.from_pretrained(config.base_model_name_or_path, revision=config.revision, local_files_only=True)
    except (OSError, ValueError):
        return False  # made from a configuration, and never loaded from anywhere: its vocabulary is what it was
    return _vocabulary(base) != _vocabulary(current)


def _vocabulary(config: Any) -> int | None:
    return getattr(config.get_text_config(), "vocab_size", None)


@contextmanager
def _nameless(config: Any) -> Iterator[None]:
    name, config.base_model_name_or_path = config.base_model_name_or_path, None
    try:
        yield
    finally:
        config.base_model_name_or_path = name


def attached_adapter(model: Any) -> Adapter:
    """The active adapter of a transformers model that has adapters attached, under the names that PEFT gives it."""
    active = active_adapters(model)
    if len(active) != 1:
        raise InvalidInput(
            f"{len(active)} adapters are active ({', '.join(active)}), and one folder holds one of them; "
            "nothing was written.",
            hint="Call model.set_adapter(NAME), save, and repeat for the others with a folder each.",
        )
    return _attached(model, active[0], "")


def attached_adapters(model: Any) -> Iterator[Adapter]:
    """All adapters of a transformers model that has adapters attached; the first active one is what PEFT loads."""
    first = active_adapters(model)[0]
    for name in model.peft_config:
        yield _attached(model, name, "" if name == first else name)


def _attached(model: Any, name: str, folder: str) -> Adapter:
    _check_folder(folder)
    config = model.peft_config[name]
    state = _state_of(model, name, config)
    tensors = {f"base_model.model.{key}": tensor for key, tensor in state.items()}
    check_storable(tensors)
    return Adapter(folder=folder, tensors=tensors, config=_inference_config(config), auto_mapping=None)


def active_adapters(model: Any) -> list[str]:
    """The names of the adapters that a model with adapters uses and trains."""
    active = model.active_adapters
    return list(active() if callable(active) else active)


def activate(model: Any, names: list[str]) -> None:
    """Have a model use and train these of its adapters; PEFT freezes the others."""
    if not is_peft_model(model):
        model.set_adapter(names)
    elif len(names) == 1:
        model.set_adapter(names[0])
    else:
        model.base_model.set_adapter(names)  # of several at once, only the tuner inside knows


def base_of(model: Any) -> object:
    """What the adapter says it was trained on, or else the name that the base model was loaded by."""
    for config in model.peft_config.values():
        if config.base_model_name_or_path:
            return config.base_model_name_or_path
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner, "name_or_path", None)


def write_config(adapter: Adapter, folder: Path, model: Any, base_model: str | None, revision: str | None) -> list[str]:
    """Write `adapter_config.json` with the base model's id and revision on the Hub, never with a path.

    Returns:
        A warning where the base is known only as a path of this machine.
    """
    config = adapter.config
    named = config.base_model_name_or_path or base_of(model)
    found = (base_model, revision) if base_model else hub_id(named)
    config.base_model_name_or_path, at = found or (None, None)
    config.revision = revision or at or (config.revision if found else None)
    config.save_pretrained(str(folder), auto_mapping_dict=adapter.auto_mapping)
    if found:
        return []
    return [
        "the base model is known only as a folder on this machine, so the adapter's config does not name it; "
        'pass base_model="organisation/name" to record its id on the Hub'
    ]


def _inference_config(config: Any) -> Any:
    config = copy.deepcopy(config)
    config.inference_mode = True
    for name, value in vars(config).items():
        if isinstance(value, set):  # whose order differs from process to process: the file's bytes must not
            setattr(config, name, sorted(value))
    return config


def _auto_mapping(model: Any, config: Any) -> dict[str, str] | None:
    if config.task_type is not None:
        return None
    base = model._get_base_model_class(is_prompt_tuning=config.is_prompt_learning)
    return {"base_model_class": base.__name__, "parent_library": base.__module__}
