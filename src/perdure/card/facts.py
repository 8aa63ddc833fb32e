"""What a card may say about a model: frozen records that hold no local path, no secret, no "None" and nothing empty.

Whoever gathers facts leaves out what is not known; a card says less then, and nothing false.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from perdure.card.allowed import check, check_text, is_public_link
from perdure.card.codec import from_document, to_document
from perdure.card.training import NO_TEXT, Training, as_metrics
from perdure.card.vocabulary import LICENSES, is_language, is_revision
from perdure.errors import InvalidInput, UnsupportedFormat
from perdure.format.hub_id import is_hub_id

Relation: TypeAlias = Literal["finetune", "adapter", "merge", "quantized"]

_FORMAT = "perdure_facts"
_VERSION = 1
_BRANCH = re.compile(r"[\w.+@=/-]{1,255}", re.ASCII)
_FILE = re.compile(r"\w[\w.-]{0,200}\.safetensors", re.ASCII)
_MAX_JSON = 4 * 2**20  # bytes
_NO_COUNTS: Mapping[str, int] = MappingProxyType({})


def is_weights_file(name: str) -> bool:
    """Whether a file can be named as one of safetensors, in code too."""
    return _FILE.fullmatch(name) is not None


def _check_id(what: str, id: str | None) -> None:
    check_text(f"the id of {what}", id)
    check(id is None or is_hub_id(id), f"{str(id)[:100]!r} is not the id of {what} on a Hub")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A model that this one was made from.

    Args:
        id: Its id on a Hub.
        revision: The commit it was loaded at.
        relation: What the new model is to it, as the Hub's `base_model_relation`.
    """

    id: str
    revision: str | None = None
    relation: Relation = "finetune"

    def __post_init__(self) -> None:
        _check_id("a base model", self.id)
        check_text("the base model's revision", self.revision)
        check(self.revision is None or is_revision(self.revision), "the base model's revision is none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One split of a dataset that a model was trained or evaluated on.

    Args:
        id: Its id on a Hub; None for data of one's own.
        config: Its configuration (subset) on the Hub.
        split: Such as `train`, or `train[:10%]`.
        rows: How many; None for a stream.
        revision: The Hub's commit it was read at.
        fingerprint: What the `datasets` library tells content by, where there is no revision.
        use: What it was there for.
    """

    id: str | None = None
    config: str | None = None
    split: str | None = None
    rows: int | None = None
    revision: str | None = None
    fingerprint: str | None = None
    use: Literal["training", "evaluation"] = "training"

    def __post_init__(self) -> None:
        _check_id("a dataset", self.id)
        check(self.rows is None or self.rows >= 0, "a dataset has fewer than no rows")
        check_text(
            "a dataset's config, split, revision or fingerprint",
            self.config,
            self.split,
            self.revision,
            self.fingerprint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How weights are packed.

    Args:
        method: As transformers calls it: `bitsandbytes`, `gptq`, `awq`; or `nf4`.
        bits: Of each weight.
    """

    method: str
    bits: int | None = None

    def __post_init__(self) -> None:
        check_text("the quantization", self.method)
        check(self.bits is None or 0 < self.bits <= 64, "a weight has no such number of bits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What is in the folder, as far as somebody needs to know who loads it.

    Args:
        kind: A whole model, an adapter to one, or a plain PyTorch module.
        architecture: The class of transformers that holds it (for an adapter: its base), such as `Qwen2ForCausalLM`.
        pipeline_tag: The Hub's name of its task.
        chat: Whether its tokenizer has a chat template.
        tokenizer: Whether its tokenizer lies beside it.
        own_code: Whether it comes with Python code of its own, as `auto_map` says.
        file: Of a plain module, the file of safetensors that holds all its weights; None where there is none.
        parameters: Numbers in the weights.
        dtypes: Type (`bfloat16`) → how many of the parameters have it.
        quantization: Of the weights, or of an adapter's base; None where they are not packed.
    """

    kind: Literal["model", "adapter", "module"] = "model"
    architecture: str | None = None
    pipeline_tag: str | None = None
    chat: bool = False
    tokenizer: bool = True
    own_code: bool = False
    file: str | None = "model.safetensors"
    parameters: int | None = None
    dtypes: Mapping[str, int] = field(default_factory=lambda: _NO_COUNTS)
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        check_text("an architecture, task or dtype", self.architecture, self.pipeline_tag, *self.dtypes)
        check(self.file is None or is_weights_file(self.file), "the weights are no file of safetensors")
        check(all(n >= 0 for n in (self.parameters or 0, *self.dtypes.values())), "fewer than no parameters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics measured on one dataset.

    Args:
        metrics: Metric → value.
        dataset: What it was measured on, where that has a name.
        task: The Hub's name of the task, where it is not the model's own.
    """

    metrics: Mapping[str, float]
    dataset: Dataset | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        check_text("a metric's name or task", *self.metrics, self.task)
        object.__setattr__(self, "metrics", as_metrics(self.metrics))


@dataclass(frozen=True, slots=True, kw_only=True)
class License:
    """What the model may be used for.

    Args:
        id: An identifier of the Hub's list, such as `apache-2.0`; or `other`.
        name: Of an `other` licence, such as `my-terms-1.0`.
        link: Of an `other` licence: its web address, or a file of the repository.
    """

    id: str
    name: str | None = None
    link: str | None = None

    def __post_init__(self) -> None:
        check(self.id in LICENSES, f"{self.id[:80]!r} is no licence of the Hub's list, of which `other` is one")
        check(self.id != "other" or (bool(self.name) and bool(self.link)), "an other licence has a name and a link")
        check_text("a licence's name or link", self.name, self.link)
        is_file = re.fullmatch(r"[\w-][\w.-]*", self.link or "LICENSE") is not None
        check(is_file or is_public_link(self.link), "a licence's link leads nowhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a card is made of.

    Args:
        name: The model's name, without a namespace; None where it has none that can be said.
        repo: Its own id on a Hub, once that is known.
        revision: The branch there that holds it; None for main.
        weights: What is in the folder.
        bases: The model it was made from, or those that were merged; empty for one that was trained from scratch, or
            whose base has no public name. All have one relation.
        datasets: What it was trained and evaluated on.
        tags: The Hub's tags, such as `trl`, `sft` and the user's own.
        license: None where the base's is not known.
        languages: Codes of ISO 639, such as `en`; or `multilingual`, or `code`.
        training: How it came about.
        evaluation: What was measured of the final model.
        versions: Library → version.

    Raises:
        InvalidInput: A Hub id is a local path or no id; or something is empty, a path or a secret.

    >>> Facts(name="my-model", bases=(BaseModel(id="Qwen/Qwen3-0.6B"),)).base.relation
    'finetune'
    """

    name: str | None
    repo: str | None = None
    revision: str | None = None
    weights: Weights = field(default_factory=Weights)
    bases: tuple[BaseModel, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    tags: tuple[str, ...] = ()
    license: License | None = None
    languages: tuple[str, ...] = ()
    training: Training | None = None
    evaluation: tuple[Evaluation, ...] = ()
    versions: Mapping[str, str] = field(default_factory=lambda: NO_TEXT)

    def __post_init__(self) -> None:
        check_text("the model's name", self.name)
        _check_id("a repository", self.repo)
        check(self.revision is None or _BRANCH.fullmatch(self.revision) is not None, "its branch is no name of one")
        check(len({base.relation for base in self.bases}) < 2, "the model is not the same to all of its bases")
        check(all(map(is_language, self.languages)), "a language is no code of ISO 639, such as en")
        check_text("a tag or version", *self.tags, *self.versions, *self.versions.values())

    @property
    def base(self) -> BaseModel | None:
        """The one model it was made from; None where there is none, or several were merged."""
        return self.bases[0] if len(self.bases) == 1 else None

    @property
    def dataset_ids(self) -> tuple[str, ...]:
        """The Hub ids of what it was trained on, each once."""
        return tuple(dict.fromkeys(d.id for d in self.datasets if d.id is not None and d.use == "training"))

    def to_json(self) -> str:
        """As a file for programs, a line for each of its fields; `from_json` reads it.

        >>> facts = Facts(name="my-model")
        >>> Facts.from_json(facts.to_json()) == facts
        True
        """
        document = {_FORMAT: _VERSION, **to_document(self)}
        lines = (f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in document.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Facts:
        """Read what `to_json` wrote.

        Raises:
            InvalidInput: It is something else, or says what no card may say.
            UnsupportedFormat: A newer perdure wrote it.
        """
        if len(text) > _MAX_JSON:
            raise InvalidInput(f"These are no facts for a card: they have more than {_MAX_JSON >> 20} MiB.")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput("These are no facts for a card: this is no JSON.") from error
        version = document.get(_FORMAT) if isinstance(document, dict) else None
        if type(version) is not int or version < 1:
            raise InvalidInput(f"These are no facts for a card: {_FORMAT!r} is not in them.")
        if version > _VERSION:
            raise UnsupportedFormat(
                f"These facts are of version {version}, and this perdure reads {_VERSION}.",
                hint="pip install --upgrade perdure",
            )
        return from_document(cls, document)
