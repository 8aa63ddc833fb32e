"""Recognise what other tools generate into a card, so that only a person's words, and what we do not know, stay of it.

TRL and transformers write a README.md into the Trainer's folder again and again, and PEFT saves the Hub's empty form
beside each adapter; such a card has no marks. It is read block by block: a block is what stands between blank lines, or
a fenced listing. **One goes only if each of its lines is, to the letter, what such a tool writes, and says nothing or
what the new card says as well.** All others stay as they are, under their headings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from perdure.card.document import lines_of
from perdure.format.hub_id import is_hub_id

_TOOLS = re.compile(
    r"It has been trained using \[TRL\]\(https://github\.com/huggingface/trl\)"
    r"|<!-- This model card has been generated automatically according to the information the Trainer had"
    r"|^# Model Card for Model ID$|<!-- Provide a quick summary of what the model is/does\. -->",
    re.MULTILINE,
)
_LIBRARIES = ("transformers", "peft")
_NUMBER = r"-?(?:\d+(?:\.\d*)?(?:e[-+]?\d+)?|nan|inf)"
_BASE = r"\[(?P<base>[^\]\n]*)\]\(https://huggingface\.co/(?P=base)\)"
_QUICK_STARTS = re.compile(
    r"```python\nfrom transformers import pipeline\n\n(?:"
    r'question = "If you had a time machine, but could only go to the past or the future once and never return, which '
    r'would you choose and why\?"\ngenerator = pipeline\("text-generation", model="[^"\n]*", device(?:_map)?="\w+"\)\n'
    r'output = generator\(\[\{"role": "user", "content": question\}\], max_new_tokens=128, return_full_text=False\)'
    r'\[0\]\nprint\(output\["generated_text"\]\)'
    r'|text = "The capital of France is Paris\."\nrewarder = pipeline\(model="[^"\n]*", device(?:_map)?="\w+"\)\n'
    r'output = rewarder\(text\)\[0\]\nprint\(output\["score"\]\))\n```'
)
# A line → what the lines below it in its block look like. A group's content must be on the new page, or say nothing.
_LINES = {
    rf"This model is a fine-tuned version of {_BASE}"
    r"(?: on the \[(?P<data>[^\]\n]*)\]\(https://huggingface\.co/datasets/(?P=data)\) dataset)?\.": None,
    rf"This model (?:is a fine-tuned version of {_BASE}|was trained from scratch) on (?:an unknown dataset"
    r"|the (?P<data>[^,\s]+) dataset)\.": None,
    r"It has been trained using \[TRL\]\((?P<tool>https://github\.com/huggingface/trl)\)\.": None,
    r"This model was trained with (?P<method>[\w-]+)"
    r"(?:, a method introduced in \[[^\]\n]*\]\((?P<paper>https://huggingface\.co/papers/[\d.]+)\))?\.": None,
    r"It achieves the following results on the evaluation set:": rf"- (?P<metric>[\w ]+): {_NUMBER}",
    r"The following hyperparameters were used during training:": (
        rf"- (?P<hyperparameters>learning_rate|\w+_batch_size|seed|num_devices|gradient_accumulation_steps|num_epochs"
        rf"|training_steps|lr_scheduler_warmup_\w+|label_smoothing_factor): {_NUMBER}"
        r"|- (?P<setting>lr_scheduler_type|distributed_type|mixed_precision_training): (?:\w+|multi-GPU|Native AMP)"
        rf"|- (?P<optimizer>optimizer): Use [\w.]+ with betas=\({_NUMBER},{_NUMBER}\) and epsilon={_NUMBER} and "
        r"optimizer_args=No additional optimizer arguments"
    ),
    r"\| Training Loss \| Epoch +\| Step +\|(?P<curves>(?: [\w ]+\|)*)": (
        rf"\|(?::-+:\|)+|\|(?: (?:{_NUMBER}|No log) +\|)+"
    ),
    r"\[<img src=\"https://raw\.githubusercontent\.com/(?:wandb|gradio-app|comet-ml)/[^\"\n]*\"[^>\n]*/>\]"
    r"\((?P<log>[^)\s]+)\) ?": None,
}  # fmt: skip
_VERSION = re.compile(r"- (?P<library>PEFT|TRL|Transformers|Pytorch|Datasets|Tokenizers):? \d[\w.+]*")
_LABELS = re.compile(r"Cite [\w ]+ as:|\*\*(?:BibTeX|APA):\*\*|Use the code below to get started with the model\.")
_HEADING = re.compile(r"(#{1,6}) (.*)")
_LABEL = 7  # the level of what is a heading in all but its form


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPage:
    """What the new card says.

    Args:
        name: The model's name.
        regions: Region → Markdown.
        front: The metadata, as it will stand.
    """

    name: str | None
    regions: Mapping[str, str]
    front: str

    def says(self, topic: str, value: str) -> bool:
        """Whether it says this as well, or there is nothing to say."""
        if topic in ("base", "data") and not is_hub_id(value):
            return topic == "base"
        if topic in ("hyperparameters", "setting", "optimizer"):
            return "Hyperparameters" in self.regions.get("training", "")
        if topic == "curves":
            return bool(self.regions.get("curves"))
        if topic == "metric":
            value, text = value.replace(" ", "_"), self.regions.get("evaluation", "")
            return f"`eval_{value}`".lower() in text.lower() or f"`{value}`".lower() in text.lower()
        region = {"library": "versions", "method": "summary"}.get(topic)
        text = "\n".join((*self.regions.values(), self.front)) if region is None else self.regions.get(region, "")
        return re.search(rf"(?<![\w/-]){re.escape(value)}(?![\w/-])", text, re.IGNORECASE) is not None


@dataclass(slots=True)
class _Block:
    text: str
    gap: str  # the blank lines after it
    kept: bool = True
    fenced: bool = False

    @property
    def level(self) -> int:
        if not self.fenced and _LABELS.fullmatch(self.text.strip()):
            return _LABEL
        heading = None if self.fenced else _HEADING.fullmatch(self.text)
        return len(heading[1]) if heading else 0


def is_generated(body: str) -> bool:
    """Whether TRL, transformers or PEFT wrote this card, a person's additions aside."""
    return _TOOLS.search(body) is not None


def generated_keys(metadata: Mapping[str, Any], name: str | None) -> frozenset[str]:
    """The keys of a generated card whose values its tool could have written, and that say nothing or what we say too:
    a local path, the tool's `licence: license`, which is no key of the Hub's, the model's name.
    """
    keys = set()
    if metadata.get("library_name") in _LIBRARIES:
        keys.add("library_name")
    if metadata.get("licence") == "license":
        keys.add("licence")
    if metadata.get("model_name") == name:
        keys.add("model_name")
    for key in ("base_model", "datasets"):
        value = metadata.get(key)
        if key in metadata and not (value if isinstance(value, list) else is_hub_id(value)):
            keys.add(key)
    return frozenset(keys)


def kept_tags(tags: list[Any]) -> list[Any]:
    """Without the tags in which PEFT repeats where an adapter's base was loaded from, when that is no Hub id."""
    return [tag for tag in tags if not _is_nameless(str(tag))]


def _is_nameless(tag: str) -> bool:
    head, separator, base = tag.rpartition(":")
    return bool(separator) and head.startswith("base_model:") and not is_hub_id(base)


def without_generated(body: str, page: NewPage) -> str:
    """What is left of a generated card's text when what its tool wrote and `page` says is taken out; may be empty."""
    blocks, section = _split(body), ""
    for block in blocks:
        section = block.text if 0 < block.level < _LABEL else section
        block.kept = not _goes(block, section, page)
    _drop_empty_headings(blocks, page.name)
    if all(block.kept for block in blocks):
        return body
    return "".join(block.text + block.gap for block in blocks if block.kept).strip("\n")


def _goes(block: _Block, section: str, page: NewPage) -> bool:
    if block.fenced:
        entry = " ".join(block.text.split())  # however its lines are broken
        cited = entry.startswith("```bibtex ") and entry in " ".join(page.regions.get("citation", "").split())
        return cited or (bool(page.regions.get("usage")) and _QUICK_STARTS.fullmatch(block.text) is not None)
    below: re.Pattern[str] | None = None
    for line in block.text.split("\n"):
        if line in _empty_lines():
            below = None
            continue
        found = below and below.fullmatch(line)
        if not found and section == "### Framework versions":
            found = _VERSION.fullmatch(line)
        if not found:
            found, below = next(((one, rest) for head, rest in _lines() if (one := head.fullmatch(line))), (None, None))
        if not found or not all(page.says(*said) for said in found.groupdict().items() if said[1]):
            return False
    return True


@cache
def _lines() -> tuple[tuple[re.Pattern[str], re.Pattern[str] | None], ...]:
    return tuple((re.compile(head), re.compile(below) if below else None) for head, below in _LINES.items())


@cache
def _empty_lines() -> frozenset[str]:
    """Lines of empty forms, which ask, and say nothing."""
    source = Path(__file__).with_name("templates") / "empty_forms.md"
    return frozenset(source.read_text(encoding="utf-8").splitlines()) - {""}


def _drop_empty_headings(blocks: list[_Block], name: str | None) -> None:
    title = next((block for block in blocks if block.level == 1), None)
    if title is not None and title.text in ("# Model Card for Model ID", f"# Model Card for {name}", f"# {name}"):
        title.kept = False  # a new title says as much
    for index in range(len(blocks) - 1, -1, -1):
        block = blocks[index]
        if block.level == _LABEL or (block.level and block.text in _empty_lines()):
            later = blocks[index + 1 :]
            end = next((i for i, one in enumerate(later) if 0 < one.level <= block.level), len(later))
            block.kept = any(one.kept for one in later[:end])


def _split(body: str) -> list[_Block]:
    blocks: list[_Block] = []
    for line, fenced in lines_of(body):
        alone = not fenced and (_HEADING.fullmatch(line) or _LABELS.fullmatch(line.strip()))
        last = blocks[-1] if blocks else None
        if not fenced and not line.strip():
            if last is None:
                blocks.append(_Block("", line + "\n"))
            else:
                last.gap += line + "\n"
        elif last and not alone and last.gap == "\n" and last.fenced == fenced and not last.level and last.text:
            last.text += "\n" + line
        else:
            blocks.append(_Block(line, "\n", fenced=fenced))
    return blocks
