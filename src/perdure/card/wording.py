"""How a card's template writes numbers, names, tables and links: its filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import Any

from perdure.card import markdown
from perdure.card.facts import Dataset, Facts, Weights
from perdure.card.markdown import code, code_cell, link, table, text
from perdure.card.results import Result
from perdure.card.training import Scalar, Training
from perdure.format.hub_id import HUB

_LONG = re.compile(r"^([ \t]*(?:author|title)\s*=\s*[{\"])([^\n]{80,})$", re.MULTILINE)
HOMES = {"TRL": "https://github.com/huggingface/trl"}
_OF_A_RUN = {
    "loss": " (last logged)",
    "reward": " (last logged)",
    "train_loss": " (mean of the run)",
}
_MOST_OF_A_DIGEST = 12  # characters; enough to tell two apart, and no table grows wider than a phone
_LIBRARY_CITATIONS = {
    "TRL": """@software{vonwerra2020trl,
  title   = {{TRL: Transformers Reinforcement Learning}},
  author  = {von Werra, Leandro and Belkada, Younes and Tunstall, Lewis and
             Beeching, Edward and Thrush, Tristan and Lambert, Nathan and
             Huang, Shengyi and Rasul, Kashif and Gallouédec, Quentin},
  license = {Apache-2.0},
  url     = {https://github.com/huggingface/trl},
  year    = {2020}
}""",
}


def paragraph(value: str) -> str:
    """Text on one line: a template may break its lines where it likes."""
    return re.sub(r" ([.,](?: |$))", r"\1", " ".join(value.split()))


def joint(loop: Any) -> str:
    """What stands before an item of an enumeration."""
    return "" if loop.first else " and" if loop.last else ","


def setting(value: Scalar) -> str:
    """A setting's value, as one would write it in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def number(value: float) -> str:
    """
    >>> [number(value) for value in (0.123456, 2e-05, 1234567, 1.0)]
    ['0.1235', '2e-05', '1,234,567', '1']
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """
    >>> [duration(seconds) for seconds in (12.34, 90, 5400, 200_000)]
    ['12.3 s', '1.5 minutes', '1.5 hours', '2.3 days']
    """
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: int) -> str:
    """
    >>> size(85_520_809_984)
    '79.6 GiB'
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def revision(commit: str, repository: str | None) -> str:
    """A revision; a commit of a repository on the Hub is cut short, and links to all of it."""
    if repository is None or re.fullmatch(r"[0-9a-f]{40}", commit) is None:
        return code_cell(commit)
    return f"[{code(commit[:12])}]({repository}/tree/{commit})"


def wrapped(command: str) -> str:
    r"""A long command with an option on each line, unless quotes make that uncertain.

    >>> print(wrapped("python train.py --dataset_name openai/gsm8k --learning_rate 2e-5 --max_steps 400 --bf16"))
    python train.py \
        --dataset_name openai/gsm8k \
        --learning_rate 2e-5 \
        --max_steps 400 \
        --bf16
    """
    if len(command) <= 80 or re.search(r"[\\'\"\n#]", command):
        return command
    return command.replace(" --", " \\\n    --")


def extent(training: Training) -> str:
    """How long a run was, in every unit that is known."""
    known = (
        (training.steps, lambda count: f"{count:,} steps"),
        (training.epochs, lambda count: f"{count:.4g} {'epoch' if count == 1 else 'epochs'}"),
        (training.tokens, lambda count: f"{count:,} tokens"),
        (training.seconds, duration),
    )
    parts = [write(value) for value, write in known if value is not None]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def says_how(training: Training) -> bool:
    """Whether more is known of how a model was trained than what code ran."""
    return replace(training, source=None, command=None, history={}) != Training()


def traits(weights: Weights) -> list[str]:
    """What to say of weights beside their number."""
    return [trait for trait in (weights.architecture, *weights.dtypes) if trait]


def dataset_table(datasets: Sequence[Dataset]) -> str:
    """What a model was trained and evaluated on, with the columns of which something is known."""
    columns: dict[str, Callable[[Dataset], str]] = {
        "Config": lambda one: code_cell(one.config or ""),
        "Split": lambda one: code_cell(one.split or ""),
        "Rows": lambda one: "" if one.rows is None else f"{one.rows:,}",
        "Revision": _revision,
        "Fingerprint": lambda one: (
            "" if one.revision else code_cell((one.fingerprint or "").removeprefix("sha256:")[:_MOST_OF_A_DIGEST])
        ),
    }
    shown = {name: write for name, write in columns.items() if any(write(one) for one in datasets)}
    rows = [
        (
            _dataset_name(one),
            "Training" if one.use == "training" else "Evaluation",
            *(write(one) for write in shown.values()),
        )
        for one in datasets
    ]
    return table(("Dataset", "Use", *shown), rows)


def metric_table(metrics: Mapping[str, float]) -> str:
    """What a run ended with."""
    rows = [(code_cell(name) + _OF_A_RUN.get(name, ""), number(value)) for name, value in metrics.items()]
    return table(("Metric", "Value"), rows)


def result_table(results: Sequence[Result]) -> str:
    """Results, with the columns of which something is known."""
    known = [name for name in ("dataset", "config", "split") if any(getattr(result, name) for result in results)]
    rows = [
        (code_cell(result.metric), number(result.value), *(code_cell(getattr(result, name) or "") for name in known))
        for result in results
    ]
    return table(("Metric", "Value", *map(str.title, known)), rows)


def citations(facts: Facts) -> list[str]:
    """What asks to be cited: the method's paper, and the library that implements it."""
    method = facts.training.method if facts.training is not None else None
    if method is None:
        return []
    entries = (method.citation, _LIBRARY_CITATIONS.get(method.library or ""))
    return [_LONG.sub(_broken, entry) for entry in entries if entry]


def _broken(field: re.Match[str]) -> str:
    """A long title or list of names on several lines, which BibTeX takes for one."""
    indent = " " * len(field[1])
    lines = wrap(field[2], width=max(30, 80 - len(indent)), break_long_words=False, break_on_hyphens=False)
    return field[1] + f"\n{indent}".join(lines)


def _revision(dataset: Dataset) -> str:
    return revision(dataset.revision, dataset.id and f"{HUB}/datasets/{dataset.id}") if dataset.revision else ""


def _dataset_name(dataset: Dataset) -> str:
    return link(dataset.id, f"{HUB}/datasets/{dataset.id}") if dataset.id else "Not on a Hub"


FILTERS: Mapping[str, Callable[..., object]] = {
    "cell": code_cell, "citations": citations, "code": code, "dataset_table": dataset_table, "duration": duration,
    "extent": extent, "fence": lambda content, language: markdown.fence(language, content), "joint": joint,
    "link": link, "metric_table": metric_table, "number": number, "paragraph": paragraph, "result_table": result_table,
    "revision": revision,
    "says_how": says_how, "setting": setting, "size": size, "text": text, "traits": traits, "wrapped": wrapped,
}  # fmt: skip
