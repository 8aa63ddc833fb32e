"""Facts → the parts of a card: metadata for the Hub, and regions of Markdown. What is not known is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perdure.card.allowed import unique
from perdure.card.facts import Dataset, Facts
from perdure.card.merge import Rendered
from perdure.card.results import Result, latest
from perdure.card.snippets import usage
from perdure.card.template import Template, shipped

_LIBRARIES = {"model": "transformers", "adapter": "peft"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture beside the card.

    Args:
        name: Its file.
        description: What it shows, for whoever cannot see it.
    """

    name: str
    description: str


def render(
    facts: Facts, added: Sequence[Result] = (), *, template: Template | None = None, picture: Picture | None = None
) -> Rendered:
    """The generated parts of a model's card; `added` are results that were measured after the run."""
    results = latest((*added, *_results(facts)))
    values = {"facts": facts, "results": results, "usage": usage(facts), "picture": picture}
    template = template or shipped()
    regions = template.render(values)
    return Rendered(name=facts.name, metadata=_metadata(facts), regions=regions, results=results, own=template.own)


def evaluation(results: Sequence[Result]) -> str:
    """The region that lists results."""
    return shipped().block("evaluation", {"results": results})


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
        "co2_eq_emissions": _emissions(facts),
    }
    return {key: value for key, value in metadata.items() if value}


def _emissions(facts: Facts) -> dict[str, object] | None:
    training = facts.training
    if training is None or training.energy is None or training.energy.co2_kg is None:
        return None
    known = {
        "emissions": training.energy.co2_kg * 1000,  # the Hub counts grams
        "source": "CodeCarbon",
        "training_type": "fine-tuning" if facts.bases else "pre-training",
        "geographical_location": training.energy.country,
        "hardware_used": f"{training.hardware.count} × {training.hardware.name}" if training.hardware else None,
    }
    return {key: value for key, value in known.items() if value is not None}


def _results(facts: Facts) -> Iterator[Result]:
    for measured in facts.evaluation:
        dataset = measured.dataset or Dataset()
        task = measured.task or facts.weights.pipeline_tag
        for metric, value in measured.metrics.items():
            yield Result(
                metric=metric, value=value, task=task if dataset.id else None, dataset=dataset.id,
                config=dataset.config, split=dataset.split, revision=dataset.revision,
            )  # fmt: skip
