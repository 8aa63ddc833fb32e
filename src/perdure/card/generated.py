"""Recognise what other tools generate into a card, so that only a person's words are kept from it.

TRL and transformers write a README.md into the Trainer's folder again and again, and PEFT saves the Hub's empty form
beside each adapter; such a card has no marks. It is read block by block (a block is what stands between blank lines, or
a fenced listing): blocks that match what those tools write, and headings under which nothing else is left, go; all
others stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from perdure.format.hub_id import is_hub_id

_TOOLS = re.compile(
    r"It has been trained using \[TRL\]\(https://github\.com/huggingface/trl\)"
    r"|<!-- This model card has been generated automatically according to the information the Trainer had"
    r"|^# Model Card for Model ID$|<!-- Provide a quick summary of what the model is/does\. -->",
    re.MULTILINE,
)
_NEEDED = r"\[More Information Needed\]"
_METADATA = frozenset({"base_model", "datasets", "library_name", "licence", "model_name", "pipeline_tag"})
_BLOCKS = re.compile(
    "|".join((
        r"This model is a fine-tuned version of \[.*\]\(https://huggingface\.co/.*\).*"
        r"\nIt has been trained using \[TRL\]\(https://github\.com/huggingface/trl\)\.",
        r"```python\nfrom transformers import pipeline\n\n"
        r"(question|text) = \"(If you had a time machine|The capital of France).*\n"
        r"(generator|rewarder) = pipeline\(.*\)\noutput = .*\n"
        r"print\(output\[\"(generated_text|score)\"\]\)\n```",
        r"(\[<img src=\"https://raw\.githubusercontent\.com/(wandb|gradio-app|comet-ml)/.*\n?)+",
        r"This model was trained with [\w ]+(, a method introduced in \[.*\]\(https://huggingface\.co/papers/.*\))?\.",
        r"(- (PEFT|TRL|Transformers|Pytorch|Datasets|Tokenizers):? \S+\n?)+",
        r"Cite [\w ]+ as:",
        r"```bibtex\n@(software|misc)\{vonwerra20\d\dtrl,\n(?s:.*)```",
        r"<!-- This model card has been generated automatically according to the information the Trainer had access"
        r" to\. You\nshould probably proofread and complete it, then remove this comment\. -->",
        r"This model (is a fine-tuned version of \[.*\]\(https://huggingface\.co/.*\)|was trained from scratch) on .*"
        r"(\nIt achieves the following results on the evaluation set:(\n- .*: .*)*)?",
        r"More information needed",
        r"The following hyperparameters were used during training:(\n- .*: .*)*",
        r"\| Training Loss \| Epoch .*(\n\|.*\|)*",
        # What the Hub's form asks, where nobody answered.
        r"<!-- (Provide|Address|This |These are|Relevant|Total emissions|If ).*-->",
        rf"(\*\*(BibTeX|APA):\*\*|(- \*\*.*:\*\* )?{_NEEDED}( <!--.*-->)?\n?)+",
        r"Users \(both direct and downstream\) should be made aware of .* More information needed for further .*",
        r"Use the code below to get started with the model\.",
        r"Carbon emissions can be estimated using the \[Machine Learning Impact calculator\].*",
    ))
)  # fmt: skip
_CITES = re.compile(r"Cite [\w ]+ as:")
_HEADING = re.compile(r"(#{1,6}) (.*)")
_HEADINGS = frozenset({
    "Quick start", "Training procedure", "Framework versions", "Citations", "Model description",
    "Intended uses & limitations", "Training and evaluation data", "Training hyperparameters", "Training results",
    "Model Details", "Model Description", "Model Sources [optional]", "Uses", "Direct Use", "Downstream Use [optional]",
    "Out-of-Scope Use", "Bias, Risks, and Limitations", "Recommendations", "How to Get Started with the Model",
    "Training Details", "Training Data", "Training Procedure", "Preprocessing [optional]", "Training Hyperparameters",
    "Speeds, Sizes, Times [optional]", "Evaluation", "Testing Data, Factors & Metrics", "Testing Data", "Factors",
    "Metrics", "Results", "Summary", "Model Examination [optional]", "Environmental Impact",
    "Technical Specifications [optional]", "Model Architecture and Objective", "Compute Infrastructure", "Hardware",
    "Software", "Citation [optional]", "Glossary [optional]", "More Information [optional]",
    "Model Card Authors [optional]", "Model Card Contact",
})  # fmt: skip
_TITLES = re.compile(r"# Model Card for .*")


@dataclass(slots=True)
class _Block:
    text: str
    gap: str  # the blank lines after it
    kept: bool = True

    @property
    def level(self) -> int:
        heading = _HEADING.fullmatch(self.text)
        return len(heading[1]) if heading else 0


def is_generated(body: str) -> bool:
    """Whether TRL or transformers wrote this card, a person's additions aside."""
    return _TOOLS.search(body) is not None


def generated_keys(metadata: Mapping[str, Any], ours: Mapping[str, object]) -> frozenset[str]:
    """The keys of a generated card that its tool filled in and that we replace, or drop where they say nothing.

    A Hub id that the tool knew and we do not stays, and so do its datasets; a local path does not. The tool's
    `licence: license` is not the Hub's key and names nothing.
    """
    keys = set(_METADATA & metadata.keys())
    if metadata.get("licence") != "license":
        keys.discard("licence")
    if "base_model" not in ours and is_hub_id(metadata.get("base_model")):
        keys.discard("base_model")
    datasets = metadata.get("datasets")
    if all(is_hub_id(name) for name in (datasets if isinstance(datasets, list) else [datasets])):
        keys.discard("datasets")
    return frozenset(keys)


def kept_tags(tags: list[Any]) -> list[Any]:
    """Without the tags in which PEFT repeats where an adapter's base was loaded from, when that is no Hub id."""
    return [tag for tag in tags if not _is_nameless(str(tag))]


def _is_nameless(tag: str) -> bool:
    head, separator, base = tag.rpartition(":")
    return bool(separator) and head.startswith("base_model:") and not is_hub_id(base)


def without_generated(body: str, names: Collection[str]) -> str:
    """What is left of a generated card's body when everything that its tool wrote is taken out; may be empty.

    Args:
        body: The text below the metadata.
        names: What its tool may have called the model; a title that says otherwise is a person's.
    """
    blocks = _split(body)
    for index, block in enumerate(blocks):
        previous = blocks[index - 1].text if index else ""
        is_citation = block.text.startswith("```bibtex") and _CITES.fullmatch(previous) is not None
        block.kept = not (is_citation or _BLOCKS.fullmatch(block.text))
    _drop_empty_headings(blocks, names)
    if all(block.kept for block in blocks):
        return body
    return "".join(block.text + block.gap for block in blocks if block.kept).strip("\n")


def _drop_empty_headings(blocks: list[_Block], names: Collection[str]) -> None:
    title = next((block for block in blocks if block.level == 1), None)
    if title is not None and (_TITLES.fullmatch(title.text) or title.text.removeprefix("# ") in names):
        title.kept = False  # the model's name, which a new title replaces
    for index in range(len(blocks) - 1, -1, -1):
        block = blocks[index]
        if not block.level or block.text.lstrip("# ") not in _HEADINGS:
            continue
        section = []
        for later in blocks[index + 1 :]:
            if 0 < later.level <= block.level:
                break
            section.append(later)
        block.kept = any(later.kept for later in section)


def _split(body: str) -> list[_Block]:
    blocks: list[_Block] = []
    lines: list[str] = []
    fenced = False

    def close(gap: str) -> None:
        if lines:
            blocks.append(_Block("\n".join(lines), gap))
            lines.clear()
        elif blocks:
            blocks[-1].gap += gap

    for line in body.split("\n"):
        fence = line.startswith("```")
        if not fenced and (fence or _HEADING.fullmatch(line)) and lines:
            close("\n")
        if fenced or line.strip():
            lines.append(line)
        else:
            close("\n\n" if lines else f"{line}\n")
        if fence:
            fenced = not fenced
        if lines and not fenced and (fence or _HEADING.fullmatch(line)):
            close("\n")
    close("")
    return blocks
