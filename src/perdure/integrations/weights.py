"""What is in a model, as a card may tell it: class and task, how many numbers of which type, how they are packed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import Any

from perdure.card.facts import Quantization, Weights
from perdure.integrations.lineage import inner_of
from perdure.model.inference import tokenizer_of
from perdure.model.kind import kind_of
from perdure.model.weights import is_transformers_model

_TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForImageClassification": "image-classification",
}


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
        pipeline_tag=next((tag for ending, tag in _TASKS.items() if is_model and name.endswith(ending)), None),
        chat=bool(getattr(tokenizer_of(processor), "chat_template", None)),
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
    said = config if isinstance(config, Mapping) else getattr(config, "to_dict", lambda: vars(config))()
    method = said.get("quant_method")
    method = method.value if isinstance(method, Enum) else method
    if not isinstance(method, str) or not method:
        return None
    bits: Any = 4 if said.get("load_in_4bit") else 8 if said.get("load_in_8bit") else said.get("bits")
    kind = said.get("bnb_4bit_quant_type") if said.get("load_in_4bit") else None
    return Quantization(
        method=f"{method} {kind}" if isinstance(kind, str) else method, bits=bits if isinstance(bits, int) else None
    )
