"""Facts → the parts of a card: metadata for the Hub, and regions of Markdown. Pure; what is not known is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from perdure.card.allowed import unique
from perdure.card.facts import Dataset, Facts
from perdure.card.markdown import code_cell, fence, link, table, text
from perdure.card.merge import Rendered
from perdure.card.results import Result, latest
from perdure.card.snippets import usage
from perdure.card.training import Method, Scalar, Training
from perdure.format.hub_id import HUB

_LIBRARIES = {"model": "transformers", "adapter": "peft"}
_HOMES = {"TRL": "https://github.com/huggingface/trl"}
_LIBRARY_CITATIONS = {
    "TRL": """@software{vonwerra2020trl,
  title   = {{TRL: Transformers Reinforcement Learning}},
  author  = {von Werra, Leandro and Belkada, Younes and Tunstall, Lewis and Beeching, Edward and Thrush, Tristan and Lambert, Nathan and Huang, Shengyi and Rasul, Kashif and Gallouédec, Quentin},
  license = {Apache-2.0},
  url     = {https://github.com/huggingface/trl},
  year    = {2020}
}""",  # noqa: E501 (as its authors print it)
}


def render(facts: Facts, added: Sequence[Result] = ()) -> Rendered:
    """The generated parts of a model's card; `added` are results that were measured after the run."""
    results = latest((*added, *_results(facts)))
    regions = {name: write(facts) for name, write in _REGIONS.items()}
    regions["evaluation"] = evaluation(results)
    return Rendered(name=facts.name, metadata=_metadata(facts), regions=regions, results=results)


def evaluation(results: Sequence[Result]) -> str:
    """The region that lists results."""
    if not results:
        return ""
    known = [name for name in ("dataset", "config", "split") if any(getattr(result, name) for result in results)]
    rows = [
        (code_cell(result.metric), *(code_cell(getattr(result, name) or "") for name in known), _number(result.value))
        for result in results
    ]
    return "## Evaluation\n\n" + table(("Metric", *map(str.title, known), "Value"), rows)


def _metadata(facts: Facts) -> dict[str, object]:
    bases = [base.id for base in facts.bases]
    metadata: dict[str, object | None] = {
        "language": list(facts.languages),
        "license": facts.license.id if facts.license else None,
        "license_name": facts.license.name if facts.license else None,
        "license_link": facts.license.link if facts.license else None,
        "library_name": _LIBRARIES.get(facts.weights.kind),
        "pipeline_tag": facts.weights.pipeline_tag,
        "base_model": bases[0] if len(bases) == 1 else bases,
        "base_model_relation": facts.bases[0].relation if bases else None,
        "datasets": list(facts.dataset_ids),
        "tags": list(unique(facts.tags)),
    }
    return {key: value for key, value in metadata.items() if value}


def _title(facts: Facts) -> str:
    return f"# {text(facts.name)}"


def _summary(facts: Facts) -> str:
    adapter = facts.weights.kind == "adapter"
    what = "An adapter" if adapter else "A model"
    if facts.base is not None:
        base = link(facts.base.id, f"{HUB}/{facts.base.id}")
        what = f"An adapter for {base}" if adapter else f"A fine-tuned version of {base}"
        if facts.base.revision is not None:
            what += f" (at revision {code_cell(facts.base.revision)})"
    if facts.training is not None and facts.training.method is not None:
        what += f", trained with {_method(facts.training.method)}"
    if facts.dataset_ids:
        what += " on " + " and ".join(link(name, f"{HUB}/datasets/{name}") for name in facts.dataset_ids)
    sentences = [what + "."]
    if facts.weights.parameters is not None:
        holder = f" ({code_cell(facts.weights.architecture)})" if facts.weights.architecture else ""
        sentences.append(f"It has {facts.weights.parameters:,} parameters{holder}.")
    return " ".join(sentences)


def _method(method: Method) -> str:
    home = _HOMES.get(method.library or "")
    by = f" by {link(method.library, home)}" if method.library and home else ""
    return text(method.name) + by


def _usage(facts: Facts) -> str:
    how = usage(facts)
    return f"## How to use\n\n{how}" if how else ""


def _training(facts: Facts) -> str:
    training = facts.training
    if training is None:
        return ""
    parts = [_procedure(training)]
    if training.hyperparameters:
        parts.append("### Hyperparameters\n\n" + _settings(training.hyperparameters))
    if training.adapter:
        parts.append("### Adapter\n\n" + _settings(training.adapter))
    if results := _training_results(training):
        rows = [(code_cell(name), _number(value)) for name, value in results.items()]
        parts.append("### Results\n\n" + table(("Metric", "Value"), rows))
    written = [part for part in parts if part]
    return "\n\n".join(["## Training", *written]) if written else ""


def _procedure(training: Training) -> str:
    sentences = []
    method = training.method
    if method is not None and method.title and method.arxiv:
        paper = link(method.title, f"{HUB}/papers/{method.arxiv}")
        sentences.append(f"The method, {text(method.name)}, was introduced in {paper}.")
    if training.hardware:
        sentences.append(f"Trained on {training.hardware.count} × {text(training.hardware.name)}.")
    if training.logs:
        logs = ", ".join(link(service, address) for service, address in training.logs.items())
        sentences.append(f"Training log: {logs}.")
    return " ".join(sentences)


def _settings(settings: Mapping[str, Scalar]) -> str:
    rows = [(code_cell(name), code_cell(_setting(value))) for name, value in settings.items()]
    return table(("Setting", "Value"), rows)


def _training_results(training: Training) -> dict[str, float]:
    counted = {
        "steps": training.steps,
        "epochs": training.epochs,
        "seconds": training.seconds,
        "tokens": training.tokens,
    }
    return {**training.results, **{name: value for name, value in counted.items() if value is not None}}


def _results(facts: Facts) -> Iterator[Result]:
    for measured in facts.evaluation:
        dataset = measured.dataset or Dataset()
        task = measured.task or facts.weights.pipeline_tag
        for metric, value in measured.metrics.items():
            yield Result(
                metric=metric, value=value, task=task if dataset.id else None, dataset=dataset.id,
                config=dataset.config, split=dataset.split, revision=dataset.revision,
            )  # fmt: skip


def _versions(facts: Facts) -> str:
    lines = [f"- {text(library)}: {text(version)}" for library, version in facts.versions.items()]
    return "## Framework versions\n\n" + "\n".join(lines) if lines else ""


def _citation(facts: Facts) -> str:
    method = facts.training.method if facts.training is not None else None
    if method is None:
        return ""
    entries = (method.citation, _LIBRARY_CITATIONS.get(method.library or ""))
    blocks = [fence("bibtex", entry) for entry in entries if entry]
    return "\n\n".join(["## Citation", *blocks]) if blocks else ""


def _setting(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: float) -> str:
    """
    >>> [_number(value) for value in (0.123456, 2e-05, 1234567, 1.0)]
    ['0.1235', '2e-05', '1,234,567', '1']
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


_REGIONS: Mapping[str, Callable[[Facts], str]] = {
    "title": _title,
    "summary": _summary,
    "usage": _usage,
    "training": _training,
    "evaluation": lambda facts: evaluation(tuple(_results(facts))),
    "versions": _versions,
    "citation": _citation,
}
REGIONS = tuple(_REGIONS)
