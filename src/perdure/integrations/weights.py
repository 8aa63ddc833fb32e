"""What is in a model, as a card may tell it: class and task, how many numbers of which type, how they are packed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from perdure.card.facts import Quantization, Weights
from perdure.card.folder import quantization_in, task_of
from perdure.integrations.lineage import inner_of
from perdure.model.inference import tokenizer_of
from perdure.model.kind import kind_of
from perdure.model.weights import is_transformers_model


def weights_of(model: Any, processor: Any) -> Weights:
    """What a folder with this model holds.

    Args:
        model: A model, unwrapped.
        processor: Its tokenizer or processor, or None.
    """
    kind = kind_of(model)
    inner = inner_of(model)
    name = type(inner).__name__
    is_model = is_transformers_model(inner)
    numbers = _numbers(model, kind == "adapter")
    return Weights(
        kind=kind,
        architecture=name if type(inner).__module__.startswith("transformers.") else None,
        pipeline_tag=task_of(name) if is_model else None,
        chat=bool(getattr(tokenizer_of(processor), "chat_template", None)),
        tokenizer=processor is not None,
        own_code=bool(getattr(getattr(inner, "config", None), "auto_map", None)),
        parameters=sum(numbers.values()) or None,
        dtypes=numbers,
        quantization=_quantization(inner),
    )


def _numbers(model: Any, is_adapter: bool) -> Mapping[str, int]:
    """Type → how many numbers of it the weights have; of an adapter, those that are trained."""
    if not is_adapter and getattr(model, "is_quantized", False):
        return {}  # several weights to a byte: counting elements would be wrong
    counted: Counter[str] = Counter()
    for parameter in model.parameters():
        if parameter.requires_grad or not is_adapter:
            counted[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    return dict(counted)


def _quantization(inner: Any) -> Quantization | None:
    config = getattr(getattr(inner, "config", None), "quantization_config", None)
    if config is None:
        return None
    return quantization_in(
        config if isinstance(config, Mapping) else getattr(config, "to_dict", lambda: vars(config))()
    )
