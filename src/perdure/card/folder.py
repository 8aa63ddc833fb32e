"""The facts of a model that lies in a folder: those kept beside it, or else what its files say. No network."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from perdure.card import metadata
from perdure.card.allowed import is_sayable, unique
from perdure.card.document import front_matter
from perdure.card.facts import BaseModel, Dataset, Evaluation, Facts, Quantization, Weights, is_weights_file
from perdure.card.history import curves, numbers
from perdure.card.numbers import amount, plain
from perdure.card.origin import Origin, languages_in, license_in, origin_of
from perdure.card.training import Training
from perdure.card.vocabulary import is_revision
from perdure.errors import InvalidInput, NotFound, PerdureError
from perdure.folder.paths import resolve
from perdure.format.header import read_header
from perdure.format.hub_id import is_hub_id
from perdure.format.instead import instead_of
from perdure.format.names import ADAPTER_CONFIG, CARD, CONFIG, FACTS, holds_weights

_MAX_JSON = 16 * 2**20  # bytes of a configuration or a trainer's state
_MOST_FILES = 2000  # of weights
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
_ADAPTER = ("peft_type", "r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "use_dora")
_TASK_TYPES = {
    "CAUSAL_LM": "ForCausalLM",
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
}
_TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForImageClassification": "image-classification",
}


def facts_of(folder: str | Path) -> Facts:
    """The facts of a finished model: from its `card_facts.json` and the headers of its weights; without that file also
    from configurations, metrics and a card that another tool wrote.

    Raises:
        NotFound: There is no such folder.
        InvalidInput: There is no model in it, or its `card_facts.json` is none.
        UnsupportedFormat: A newer perdure wrote it.
    """
    folder = resolve(Path(folder))
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", hint=instead_of(folder))
    kept = Facts.from_json(_bytes(folder / FACTS)) if (folder / FACTS).is_file() else None
    weights = sorted(name for path in folder.glob("*") if holds_weights(name := path.name) and path.is_file())
    config, adapter = _json(folder / CONFIG), _json(folder / ADAPTER_CONFIG)
    if kept is not None:
        return _as_they_are(kept, _weights(folder, weights, config, adapter)) if weights else kept
    if not config and not adapter and not weights:
        raise InvalidInput(f"There is no model in {folder}, and so no card to write.", hint=instead_of(folder))
    said = _front_matter(folder)
    names = said.get("datasets")
    listed = [names] if isinstance(names, str) else names if isinstance(names, list) else []
    tags = said.get("tags")
    origin = _origin(config, adapter)
    results = _json(folder / "all_results.json")
    measured = {name: value for name, value in numbers(results).items() if _is_measured(name)}
    return Facts(
        name=folder.name if is_sayable(folder.name) else None,
        weights=_weights(folder, weights, config, adapter),
        bases=_bases(folder, config, adapter, said, origin),
        datasets=tuple(Dataset(id=name) for name in unique(filter(_is_id, listed))),
        tags=unique(filter(is_sayable, tags if isinstance(tags, list) else [])),
        license=license_in(said) or origin.license,
        languages=languages_in(said) or origin.languages,
        training=_training(folder, adapter, results),
        evaluation=(Evaluation(metrics=measured),) if measured else (),
    )


def task_of(architecture: str) -> str | None:
    """The Hub's name of what models of a class do.

    >>> task_of("Qwen2ForCausalLM")
    'text-generation'
    """
    return next((tag for ending, tag in _TASKS.items() if architecture.endswith(ending)), None)


def quantization_in(config: Mapping[str, Any]) -> Quantization | None:
    """What a `quantization_config` says, as transformers writes it."""
    method = getattr(config.get("quant_method"), "value", config.get("quant_method"))
    if not is_sayable(method):
        return None
    bits: Any = 4 if config.get("load_in_4bit") else 8 if config.get("load_in_8bit") else config.get("bits")
    kind = config.get("bnb_4bit_quant_type") if config.get("load_in_4bit") else None
    return Quantization(
        method=f"{method} {kind}" if is_sayable(kind) else str(method),
        bits=bits if type(bits) is int and 0 < bits <= 64 else None,
    )


def _weights(folder: Path, names: list[str], config: Mapping[str, Any], adapter: Mapping[str, Any]) -> Weights:
    architectures = config.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    known = architecture if isinstance(architecture, str) and is_sayable(architecture) else None
    packing = config.get("quantization_config")
    packed = quantization_in(packing) if isinstance(packing, Mapping) else None
    counted = {} if packed else _numbers(folder, names)
    chat = (folder / "chat_template.jinja").is_file() or "chat_template" in _json(folder / "tokenizer_config.json")
    whole = names[0] if len(names) == 1 and is_weights_file(names[0]) else None
    return Weights(
        kind="adapter" if adapter else "model" if config.get("model_type") else "module",
        architecture=known,
        pipeline_tag=task_of(known or _TASK_TYPES.get(str(adapter.get("task_type")), "")),
        chat=chat,
        tokenizer=any((folder / name).is_file() for name in _TOKENIZER),
        own_code="auto_map" in config,
        file=whole,
        parameters=sum(counted.values()) or None,
        dtypes=counted,
        quantization=packed,
    )


def _as_they_are(kept: Facts, found: Weights) -> Facts:
    """What was told of a model when it was trained, with the weights that are there now: somebody converted them."""
    weights, bases = kept.weights, kept.bases
    if weights.kind == "adapter" != found.kind:  # it was merged into its base
        weights = replace(weights, kind=found.kind, quantization=found.quantization)
        bases = tuple(replace(base, relation="finetune") for base in bases)
    weights = replace(weights, tokenizer=found.tokenizer, own_code=found.own_code, file=found.file)
    if found.dtypes:
        weights = replace(weights, parameters=found.parameters, dtypes=found.dtypes)
    return replace(kept, weights=weights, bases=bases)


def _numbers(folder: Path, names: list[str]) -> dict[str, int]:
    """Type → how many numbers, by the headers of safetensors files; empty where one cannot be read."""
    counted: Counter[str] = Counter()
    try:
        for name in names[:_MOST_FILES]:
            if name.endswith(".safetensors"):
                for tensor in read_header(folder / name).tensors.values():
                    counted[_DTYPES.get(tensor.dtype, tensor.dtype.lower())] += math.prod(tensor.shape)
    except (OSError, PerdureError):
        return {}
    return dict(counted)


def _origin(config: Mapping[str, Any], adapter: Mapping[str, Any]) -> Origin:
    loaded_from = adapter.get("base_model_name_or_path") if adapter else config.get("_name_or_path")
    revision = adapter.get("revision")
    known = revision if isinstance(revision, str) and is_revision(revision) else None
    return origin_of(loaded_from, revision=known, exact=bool(adapter)) if is_sayable(loaded_from) else Origin()


def _bases(
    folder: Path, config: Mapping[str, Any], adapter: Mapping[str, Any], said: Mapping[str, Any], origin: Origin
) -> tuple[BaseModel, ...]:
    if adapter:
        is_known = _is_id(origin.id)
        return (BaseModel(id=str(origin.id), revision=origin.revision, relation="adapter"),) if is_known else ()
    if merged := _merged(folder):
        return tuple(BaseModel(id=name, relation="merge") for name in merged)
    told = said.get("base_model")
    told = told or origin.id
    names = unique(filter(_is_id, [told] if isinstance(told, str) else told if isinstance(told, list) else []))
    relation: Any = said.get("base_model_relation")
    if relation not in ("finetune", "merge", "quantized"):
        relation = "merge" if len(names) > 1 else "quantized" if "quantization_config" in config else "finetune"
    return tuple(BaseModel(id=name, relation=relation) for name in names)


def _merged(folder: Path) -> tuple[str, ...]:
    """The models that mergekit merged, by the recipe that it leaves."""
    try:
        recipe = metadata.parse(_text(folder / "mergekit_config.yml"))
    except (yaml.YAMLError, ValueError, RecursionError):
        return ()
    return unique(filter(_is_id, _named_models(recipe))) if recipe else ()


def _named_models(value: Any) -> list[Any]:
    if isinstance(value, dict):
        named = [value[key] for key in ("model", "base_model") if isinstance(value.get(key), str)]
        return named + [name for inner in value.values() for name in _named_models(inner)]
    return [name for inner in value for name in _named_models(inner)] if isinstance(value, list) else []


def _training(folder: Path, adapter: Mapping[str, Any], results: Mapping[str, Any]) -> Training | None:
    state = _json(folder / "trainer_state.json")
    logged = state.get("log_history")
    entries = [entry for entry in logged if isinstance(entry, dict)] if isinstance(logged, list) else []
    told = numbers(state)
    ended = numbers(results)
    settings: dict[str, Any] = {name: value for name in _ADAPTER if _is_setting(value := adapter.get(name))}
    targets = adapter.get("target_modules")
    if isinstance(targets, list) and is_sayable(joined := ", ".join(sorted(map(str, targets)))):
        settings["target_modules"] = joined
    training = Training(
        adapter=settings,
        steps=int(amount(told.get("global_step")) or 0) or None,
        epochs=amount(told.get("epoch")) or amount(ended.get("epoch")),
        seconds=amount(ended.get("train_runtime")),
        tokens=int(amount(told.get("num_input_tokens_seen")) or 0) or None,
        results={"train_loss": ended["train_loss"]} if "train_loss" in ended else {},
        history=curves(entries),
    )
    return training if training != Training() else None


def _is_setting(value: object) -> bool:
    return is_sayable(value) if isinstance(value, str) else value is True or plain(value) is not None


def _is_measured(name: str) -> bool:
    of_time = name.endswith(("_runtime", "_per_second", "_preparation_time"))
    return name.startswith("eval_") and not of_time and is_sayable(name)


def _is_id(name: object) -> TypeGuard[str]:
    return is_hub_id(name) and is_sayable(name)


def _front_matter(folder: Path) -> Mapping[str, Any]:
    return metadata.parse(front_matter(_text(folder / CARD))) or {}


def _json(path: Path) -> dict[str, Any]:
    """A file that some tool wrote; empty where there is none that could be meant."""
    try:
        found = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    return _bytes(path).decode(errors="replace") if path.is_file() else ""


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_JSON)
