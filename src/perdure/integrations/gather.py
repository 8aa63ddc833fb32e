"""What a Trainer knows about its run, as facts for a card. Reads only; what is not certain is left out."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from perdure.card.allowed import unique
from perdure.card.facts import BaseModel, Dataset, Evaluation, Facts, License, Weights
from perdure.card.origin import Origin, origin_of
from perdure.card.training import Hardware, Method, Training
from perdure.format.hub_id import is_hub_id, looks_like_hub_id
from perdure.integrations.metrics import numbers, train_metrics
from perdure.integrations.settings import adapter_settings, hyperparameters
from perdure.model.adapter import base_of, is_peft_model
from perdure.model.inference import tokenizer_of
from perdure.model.kind import kind_of
from perdure.model.weights import is_transformers_model

_LIBRARIES = {
    "perdure": "perdure",
    "trl": "TRL",
    "peft": "PEFT",
    "transformers": "Transformers",
    "accelerate": "Accelerate",
    "torch": "PyTorch",
    "datasets": "Datasets",
    "tokenizers": "Tokenizers",
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
_TIMINGS = ("_runtime", "_per_second", "_preparation_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What only the caller knows, and what is asked of the card by name.

    Args:
        name: The model's name; a folder's or repository's last part will do.
        repo: Its id on a Hub, where known.
        base_model: The base's id on a Hub, in place of the one found.
        datasets: Names of datasets; those that are no Hub ids are left out.
        tags: More tags.
    """

    name: str
    repo: str | None = None
    base_model: str | None = None
    datasets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def gather(trainer: Any, model: Any, told: Told, evaluation: Mapping[str, float]) -> Facts:
    """The facts of a run.

    Args:
        trainer: A transformers Trainer, or one of TRL's, after training.
        model: Its model, unwrapped.
        told: What the caller says.
        evaluation: Metrics of the final model.
    """
    weights = _weights(model, trainer.processing_class)
    base, license_ = _base(model, told.base_model, adapter=weights.kind == "adapter")
    names = unique(name for name in told.datasets if looks_like_hub_id(name)) or _datasets(trainer.train_dataset)
    return Facts(
        name=told.name,
        repo=told.repo if is_hub_id(told.repo) else None,
        weights=weights,
        bases=(base,) if base is not None else (),
        datasets=tuple(Dataset(id=name) for name in names),
        tags=unique((*_tags(trainer, model), *told.tags)),
        license=License(id=license_) if license_ is not None else None,
        training=_training(trainer, model),
        evaluation=(Evaluation(metrics=scores),) if (scores := _scores(evaluation)) else (),
        versions=_versions(),
    )


def base_model(model: Any, told: str | None) -> BaseModel | None:
    """The base to record with an adapter's or model's weights: the caller's, or the one it was loaded from."""
    return _base(model, told, adapter=kind_of(model) == "adapter")[0]


def has_base(model: Any) -> bool:
    """Whether the model, or what its adapter is for, was loaded from somewhere and not made new."""
    return bool(_loaded_from(model))


def method_name(trainer: Any) -> str | None:
    """`SFT`, `DPO`, `GRPO` …, as TRL's trainers and their subclasses call themselves; None for a plain Trainer."""
    name = getattr(trainer, "_name", None)
    return name if _is_trl(trainer) and isinstance(name, str) and name != "Base" else None


def _is_trl(trainer: Any) -> bool:
    return any(cls.__module__.partition(".")[0] == "trl" for cls in type(trainer).__mro__)


def _method(trainer: Any) -> Method | None:
    name = method_name(trainer)
    if name is None:
        return None
    paper = getattr(trainer, "_paper", None) or {}
    return Method(
        name=name, library="TRL", title=paper.get("title"), arxiv=paper.get("id"), citation=paper.get("citation")
    )


def _tags(trainer: Any, model: Any) -> Iterable[str]:
    for owner, attribute in ((trainer, "_tag_names"), (model, "model_tags")):
        found = getattr(owner, attribute, None) or ()
        yield from (tag for tag in ([found] if isinstance(found, str) else found) if isinstance(tag, str))


def _weights(model: Any, processor: Any) -> Weights:
    kind = kind_of(model)
    inner = _inner(model)
    known = type(inner).__module__.startswith("transformers.")
    is_model = is_transformers_model(inner)
    architecture = type(inner).__name__ if known else None
    task = next((tag for ending, tag in _TASKS.items() if is_model and type(inner).__name__.endswith(ending)), None)
    packed = getattr(inner, "is_quantized", False)  # several weights to a byte: counting elements would be wrong
    return Weights(
        kind=kind,
        architecture=architecture,
        pipeline_tag=task,
        chat=bool(getattr(tokenizer_of(processor), "chat_template", None)),
        parameters=None if kind == "adapter" or packed else sum(parameter.numel() for parameter in model.parameters()),
    )


def _inner(model: Any) -> Any:
    return model.get_base_model() if is_peft_model(model) else model


def _base(model: Any, told: str | None, *, adapter: bool) -> tuple[BaseModel | None, str | None]:
    commit = getattr(getattr(_inner(model), "config", None), "_commit_hash", None)
    found = origin_of(_loaded_from(model), revision=commit, exact=adapter)
    if is_hub_id(told) and told != found.id:
        found = origin_of(told) if looks_like_hub_id(told) else Origin(id=told, license=found.license)
    if found.id is None or not is_hub_id(found.id):
        return None, found.license
    relation = BaseModel(id=found.id, revision=found.revision, relation="adapter" if adapter else "finetune")
    return relation, found.license


def _loaded_from(model: Any) -> str:
    config = getattr(_inner(model), "config", None)
    return str((base_of(model) if is_peft_model(model) else getattr(config, "_name_or_path", None)) or "")


def _datasets(dataset: Any) -> tuple[str, ...]:
    """Ids recorded by the `datasets` library: the files it downloaded are named `hf://datasets/ID@COMMIT/…`."""
    files = getattr(getattr(dataset, "info", None), "download_checksums", None) or {}
    ids = (
        str(file).removeprefix("hf://datasets/").partition("@")[0] for file in files if "hf://datasets/" in str(file)
    )
    return unique(name for name in ids if is_hub_id(name))


def _training(trainer: Any, model: Any) -> Training:
    return Training(
        method=_method(trainer),
        hyperparameters=hyperparameters(trainer.args),
        adapter=adapter_settings(model) if kind_of(model) == "adapter" else {},
        results=_results(trainer),
        hardware=Hardware(name=_hardware(trainer.args)),
        logs=_logs(),
    )


def _results(trainer: Any) -> dict[str, float]:
    state = trainer.state
    found = {name: value for name, value in train_metrics(trainer).items() if name in ("train_loss", "train_runtime")}
    found["steps"] = state.global_step
    for name, value in (("epochs", state.epoch), ("input_tokens", state.num_input_tokens_seen)):
        if value:
            found[name] = value
    for name in ("num_tokens", "reward"):  # TRL logs these as it goes; the last is the run's
        logged = [entry[name] for entry in state.log_history if name in entry]
        found |= numbers({name: logged[-1]}) if logged else {}
    return found if state.global_step else {}


def _scores(evaluation: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in evaluation.items() if name != "epoch" and not name.endswith(_TIMINGS)}


def _hardware(args: Any) -> str:
    import torch

    device = args.device
    if device.type != "cuda":
        return f"{device.type.upper()} ({platform.machine()})"
    return f"{args.world_size * max(1, args.n_gpu)} × {torch.cuda.get_device_name(device)}"


def _logs() -> dict[str, str]:
    """Links to logs of runs that are open in this process; a service that is not imported has none."""
    found = {
        "Weights & Biases": _attribute("wandb", "run", "url"),
        "Comet": _attribute("comet_ml", "get_running_experiment", "url"),
        "Trackio": _trackio(),
    }
    return {name: link for name, link in found.items() if isinstance(link, str) and link.startswith("https://")}


def _trackio() -> str | None:
    run = _attribute("trackio.context_vars", "current_run", "get")
    space = getattr(run, "_space_id", None)
    if not isinstance(space, str):
        return None
    return f"https://{space.replace('/', '-')}.hf.space?project={run.project}&runs={run.name}&sidebar=collapsed"


def _attribute(module: str, *path: str) -> Any:
    value: Any = sys.modules.get(module)
    for name in path:
        value = getattr(value, name, None)
        value = value() if callable(value) else value
    return value


def _versions() -> dict[str, str]:
    found = {}
    for package, name in _LIBRARIES.items():
        if package in sys.modules:
            try:
                found[name] = version(package)
            except PackageNotFoundError:  # run from a source tree that is not installed
                continue
    return found
