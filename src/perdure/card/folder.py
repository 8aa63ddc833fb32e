"""What a saved folder tells of its model: the facts that were kept beside the card, or else what its configs say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from perdure.card.allowed import is_sayable
from perdure.card.facts import BaseModel, Facts, Weights
from perdure.card.origin import origin_of
from perdure.errors import Corrupt, InvalidInput, NotFound
from perdure.format.header import read_header
from perdure.format.instead import instead_of
from perdure.format.names import FACTS, holds_weights

_MAX_FILE = 4 * 2**20  # bytes
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}


def facts_of(folder: Path) -> Facts:
    """The facts of a saved model.

    Raises:
        NotFound: There is no such folder.
        InvalidInput: There is no model in it, or its `card_facts.json` is none.
    """
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", hint=instead_of(folder))
    if (folder / FACTS).is_file():
        return Facts.from_json(_read(folder / FACTS))
    if not any(holds_weights(path.name) for path in folder.iterdir()):
        raise InvalidInput(f"There is no model in {folder}, and so no card to write.", hint=instead_of(folder))
    adapter, config = _json(folder / "adapter_config.json"), _json(folder / "config.json")
    loaded_from = adapter.get("base_model_name_or_path") if adapter else config.get("_name_or_path")
    origin = origin_of(str(loaded_from or ""), revision=_text(adapter.get("revision")), exact=bool(adapter))
    base = origin.id and BaseModel(
        id=origin.id, revision=origin.revision, relation="adapter" if adapter else "finetune"
    )
    return Facts(
        name=folder.resolve().name,
        weights=_weights(folder, config, is_adapter=bool(adapter)),
        bases=(base,) if base else (),
        license=origin.license,
        languages=origin.languages,
    )


def _weights(folder: Path, config: dict[str, Any], *, is_adapter: bool) -> Weights:
    listed = config.get("architectures")
    architecture = _text(listed[0]) if isinstance(listed, list) and listed else None
    task = next((tag for ending, tag in _TASKS.items() if architecture and architecture.endswith(ending)), None)
    counts: dict[str, int] = {}
    for dtype, count in _tensors(folder):
        counts[dtype] = counts.get(dtype, 0) + count
    is_known = bool(counts) and not is_adapter and counts.keys() <= set(_DTYPES.values())  # packed ones are not counted
    return Weights(
        kind="adapter" if is_adapter else "model" if config else "module",
        architecture=architecture,
        pipeline_tag="text-generation" if is_adapter and _is_causal(folder) else task,
        chat=(folder / "chat_template.jinja").is_file() or "chat_template" in _json(folder / "tokenizer_config.json"),
        parameters=sum(counts.values()) if is_known else None,
        dtypes=counts if is_known else {},
    )


def _is_causal(folder: Path) -> bool:
    return _json(folder / "adapter_config.json").get("task_type") == "CAUSAL_LM"


def _tensors(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.glob("*.safetensors")):
        with suppress(Corrupt, OSError):  # `perdure verify` tells of it
            for info in read_header(path).tensors.values():
                yield _DTYPES.get(info.dtype, info.dtype), math.prod(info.shape)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(path))
    except (OSError, ValueError, RecursionError):  # absent, or none of ours to judge
        return {}
    return value if isinstance(value, dict) else {}


def _read(path: Path) -> bytes:
    if path.stat().st_size > _MAX_FILE:
        raise InvalidInput(f"{path} is too large to be read: more than 4 MiB.")
    return path.read_bytes()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and is_sayable(value) else None
