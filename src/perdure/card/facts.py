"""What a card may say about a model: frozen records that hold no local path, no "None" and nothing empty.

Whoever gathers facts leaves out what is not known; a card says less then, and nothing false.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from perdure.errors import InvalidInput
from perdure.format.hub_id import is_hub_id

Scalar: TypeAlias = bool | int | float | str

_NOTHING: Mapping[str, Scalar] = MappingProxyType({})
_NO_TEXT: Mapping[str, str] = MappingProxyType({})
_NO_NUMBERS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The model that training started from.

    Args:
        id: Its id on a Hub.
        revision: The commit it was loaded at.
        relation: What the new model is to it, as the Hub's `base_model_relation`.
    """

    id: str
    revision: str | None = None
    relation: Literal["finetune", "adapter"] = "finetune"

    def __post_init__(self) -> None:
        _check(is_hub_id(self.id), f"{self.id!r} is not the id of a base model on a Hub")
        _check(self.revision != "", "the base model's revision is empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How the model was trained.

    Args:
        name: As people write it: `SFT`, `DPO`, `GRPO`.
        library: The library that implements it, where it asks to be cited: `TRL`.
        title: The paper's title.
        arxiv: The paper's arXiv id, `YYMM.NNNNN`.
        citation: A BibTeX entry.
    """

    name: str
    library: str | None = None
    title: str | None = None
    arxiv: str | None = None
    citation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training run.

    Args:
        method: None for a plain loop or Trainer.
        hyperparameters: Name → value, in the order to show.
        adapter: The adapter's settings (LoRA's rank, targets …); empty for a full model.
        results: Name → number: loss, steps, epochs, seconds.
        hardware: For example `1 × NVIDIA H100 80GB HBM3`.
        logs: Service → https link to the run's log.
    """

    method: Method | None = None
    hyperparameters: Mapping[str, Scalar] = field(default_factory=lambda: _NOTHING)
    adapter: Mapping[str, Scalar] = field(default_factory=lambda: _NOTHING)
    results: Mapping[str, float] = field(default_factory=lambda: _NO_NUMBERS)
    hardware: str | None = None
    logs: Mapping[str, str] = field(default_factory=lambda: _NO_TEXT)

    def __post_init__(self) -> None:
        for service, link in self.logs.items():
            _check(re.match(r"https?://\S+$", link) is not None, f"the log at {service} is not a web address: {link!r}")
        for name, value in {**self.hyperparameters, **self.adapter}.items():
            _check(not (isinstance(value, str) and is_path(value)), f"{name} is a local path: {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What is in the folder, as far as somebody needs to know who loads it.

    Args:
        kind: A whole model, an adapter to one, or a plain PyTorch module.
        architecture: The class of transformers that holds it (for an adapter: its base), such as `Qwen2ForCausalLM`.
        pipeline_tag: The Hub's name of its task.
        chat: Whether its tokenizer has a chat template.
        parameters: Numbers in the weights.
    """

    kind: Literal["model", "adapter", "module"] = "model"
    architecture: str | None = None
    pipeline_tag: str | None = None
    chat: bool = False
    parameters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a card is made of.

    Args:
        name: The model's name, without a namespace.
        repo: Its own id on a Hub, once that is known.
        weights: What is in the folder.
        base: None for a model trained from scratch, or from a base that has no public name.
        datasets: Hub ids.
        tags: The Hub's tags, such as `trl`, `sft` and the user's own.
        license: An identifier of the Hub's list, such as `apache-2.0`.
        languages: Codes such as `en`.
        training: How it came about.
        evaluation: Metric → value.
        versions: Library → version.

    Raises:
        InvalidInput: A Hub id is a local path or no id, or something is empty.
    """

    name: str
    repo: str | None = None
    weights: Weights = field(default_factory=Weights)
    base: BaseModel | None = None
    datasets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    license: str | None = None
    languages: tuple[str, ...] = ()
    training: Training | None = None
    evaluation: Mapping[str, float] = field(default_factory=lambda: _NO_NUMBERS)
    versions: Mapping[str, str] = field(default_factory=lambda: _NO_TEXT)

    def __post_init__(self) -> None:
        _check(bool(self.name.strip()), "a model needs a name")
        _check(not is_path(self.name), f"the name {self.name!r} is a local path")
        _check(self.repo is None or is_hub_id(self.repo), f"{self.repo!r} is not the id of a repository on a Hub")
        for dataset in self.datasets:
            _check(is_hub_id(dataset), f"{dataset!r} is not the id of a dataset on a Hub")
        for text in (*self.tags, *self.languages, *(() if self.license is None else (self.license,))):
            _check(bool(text.strip()), "a tag, language or licence is empty")


def is_path(text: str) -> bool:
    r"""Whether text is, or names, a place on some disk.

    >>> [is_path(text) for text in ("/data/x", "~/x", "../x", "C:\\x", "file:///x", "cosine", "org/name")]
    [True, True, True, True, True, False, False]
    """
    if re.match(r"[/~\\]|\.{1,2}([/\\]|$)|[A-Za-z]:[/\\]|file:", text):
        return True
    return "/" in text and os.path.lexists(text)


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """The non-empty items, trimmed, each once, in the order they first came."""
    return tuple(dict.fromkeys(trimmed for item in items if (trimmed := item.strip())))


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidInput(f"A card cannot say this: {otherwise}.", hint="Leave out what is not known.")
