from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from perdure.card.card import Card
from perdure.card.facts import BaseModel, Dataset, Evaluation, Facts, Weights

PLAIN = Facts(
    name="x", tags=("trl", "sft"), datasets=(Dataset(id="org/d"),), evaluation=(Evaluation(metrics={"eval_loss": 0.5}),)
)
LATER = Facts(
    name="x",
    tags=("trl", "sft"),
    datasets=(Dataset(id="org/e"),),
    evaluation=(Evaluation(metrics={"eval_loss": 0.25}),),
)

BY_A_PERSON = """---
# our card
license: mit   # checked
tags: [ours, "two words"]
x-team:
    - a
    # about b
    - b
model-index: []
---
# Our model

Words, and a listing:

```
# not a title
```
"""


def refresh(page: str | None, facts: Facts) -> str:
    return Card.from_facts(facts, existing=page).text


def kept(page: str, facts: Facts = LATER) -> list[str]:
    return [conflict.part for conflict in Card.from_facts(facts, existing=page).conflicts]


def front(page: str) -> dict[str, object]:
    return yaml.safe_load(page.split("---\n")[1])


def test_generated_parts_are_renewed_and_nothing_else():
    page = refresh(None, PLAIN).replace("\n\n<!-- perdure:record", "\n\nA person's words.\n\n<!-- perdure:record")
    page = page.replace("<!-- perdure:evaluation -->", "Between the parts.\n\n<!-- perdure:evaluation -->")
    renewed = refresh(page, LATER)
    assert "0.25" in renewed and "0.5 " not in renewed and front(renewed)["datasets"] == ["org/e"]
    assert renewed.count("A person's words.") == 1 and renewed.count("Between the parts.") == 1
    assert refresh(renewed, PLAIN) == page


def test_a_metric_that_comes_late_takes_its_place():
    early = refresh(None, (Facts(name="x", versions={"TRL": "1"})))
    late = refresh(early, (Facts(name="x", versions={"TRL": "1"}, evaluation=(Evaluation(metrics={"eval_loss": 1}),))))
    assert late.index("perdure:summary") < late.index("perdure:evaluation") < late.index("perdure:versions")
    assert refresh(late, (Facts(name="x", versions={"TRL": "1"}))).count("perdure:evaluation") == 0


def test_what_a_person_changed_or_took_out_stays_so():
    page = refresh(None, PLAIN)
    page = page.replace("| `eval_loss` | 0.5 |", "| `eval_loss` | 0.5 (greedy) |")
    page = page.replace("library_name: transformers\n", "library_name: mine\n")
    start, end = page.index("<!-- perdure:title"), page.index("<!-- perdure:summary")
    page = page[:start] + page[end:]
    for _ in range(3):
        page = refresh(page, LATER)
    assert "0.5 (greedy)" in page and "perdure:title" not in page and front(page)["library_name"] == "mine"
    assert kept(page) == ["evaluation"], "of the library we say what we said"
    page = page.replace("library_name: mine\n", "")
    assert "library_name" not in front(refresh(page, LATER))


def test_a_persons_card_is_only_added_to():
    page = refresh(BY_A_PERSON, PLAIN)
    head, tail = BY_A_PERSON.split("---\n")[1:]
    for line in head.splitlines():
        assert line in page or line.startswith("tags")
    assert 'tags: [ours, "two words", trl, sft]\n' in page
    assert page.index(tail.strip()) < page.index("<!-- perdure:summary -->")
    assert "perdure:title" not in page, "it has a title"
    values = front(page)
    assert values["license"] == "mit" and values["x-team"] == ["a", "b"] and values["model-index"] == []
    assert refresh(page, PLAIN) == page


@pytest.mark.parametrize(
    "tags",
    [
        "tags: mine\n",
        "tags:\n",
        "tags: []\n",
        "tags:\n  - mine # note\n",
        "tags: [mine]\n",
        "tags:\n- mine",
        "tags:\n  [ mine,\n    b ]\n",
    ],
)
def test_tags_in_every_form_gain_ours_and_lose_none(tags):
    before = yaml.safe_load(tags)["tags"] or []
    before = [before] if isinstance(before, str) else before
    page = refresh(f"---\n{tags.rstrip()}\nlicense: mit\n---\nwords\n", PLAIN)
    assert front(page)["tags"] == [*before, "trl", "sft"] and front(page)["license"] == "mit"
    assert "# note" in page or "# note" not in tags


@pytest.mark.parametrize(
    "broken",
    ["a: [b\n", "a: &x [1]\nb: *x\n", "- list\n", "a: 1\na: 2\n", "{a: 1}\n", "d: 2024-99-99\n", "[" * 3000 + "\n"],
)
def test_metadata_that_cannot_be_edited_safely_stays_as_it_is(broken):
    page = refresh(f"---\n{broken}---\nwords\n", PLAIN)
    assert page.startswith(f"---\n{broken}---\n") and "words\n" in page and "perdure:evaluation" in page
    assert kept(page, PLAIN) == ["metadata"]


@pytest.mark.parametrize("broken", ["a: 1\na: 2\n", "a: &x 1\nb: *x\n", "title: a: b\n"])
def test_what_was_written_before_a_bad_moment_is_ours_after_it(broken):
    page = refresh(None, PLAIN)
    moment = refresh(page.replace("---\n", f"---\n{broken}", 1), LATER)
    assert kept(moment) == ["metadata"]
    assert refresh(moment.replace(broken, ""), LATER) == refresh(page, LATER)


def test_a_key_that_has_no_place_is_told_and_comes_when_it_has():
    page = refresh("---\nx: 1\n...\n---\nwords\n", PLAIN)
    assert kept(page, PLAIN) == ["library_name", "datasets", "tags"]
    assert front(refresh(page.replace("...\n", ""), PLAIN))["tags"] == ["trl", "sft"]


def test_line_ends_stay_as_they_are():
    page = refresh(BY_A_PERSON.replace("\n", "\r\n"), PLAIN)
    assert "\n" not in page.replace("\r\n", "")
    assert refresh(page, PLAIN) == page and refresh(page, LATER) != page
    assert kept(page, PLAIN) == kept(page.replace("\r\n", "\n"), PLAIN)


def test_a_record_that_was_lost_or_damaged_makes_everything_a_persons():
    page = refresh(None, PLAIN)
    for record in ("", '<!-- perdure:record {"keys": 7} -->', "<!-- perdure:record {not json} -->"):
        start = page.index("<!-- perdure:record")
        damaged = page[:start] + record
        assert "| 0.25" not in refresh(damaged, LATER) and "| 0.5" in refresh(damaged, LATER)
        assert "evaluation" in kept(damaged)


def test_marks_that_do_not_match_are_words():
    page = "<!-- perdure:summary -->\nhalf a part\n"
    renewed = refresh(page, PLAIN)
    assert "half a part" in renewed
    assert refresh(renewed, PLAIN) == renewed


PERSONAL = st.text(alphabet=st.sampled_from("ab \n#-`<!>:[]|'\"\\é"), max_size=80)


@given(PERSONAL, PERSONAL, PERSONAL)
def test_any_words_survive_any_number_of_refreshes(head, middle, tail):
    page = refresh(head, PLAIN)
    page = page.replace("<!-- perdure:evaluation -->", f"{middle}\n\n<!-- perdure:evaluation -->")
    record = page.index("<!-- perdure:record")
    page = f"{page[:record]}{tail}\n{page[record:]}"
    once = refresh(page, LATER)
    assert refresh(once, LATER) == once
    assert refresh(once, PLAIN) == page
    for words in (head.strip(), middle.strip(), tail.strip()):
        assert words in once


def generated_body(page: str) -> str:
    return page.split("---\n", 2)[2].split("<!-- perdure:record", maxsplit=1)[0].strip()


def trl_card(**changes: object) -> str:
    from trl.trainer.utils import generate_model_card

    settings = {
        "base_model": None, "model_name": "out", "hub_model_id": None, "dataset_name": None,
        "tags": ["trl", "dpo", "old"], "wandb_url": "https://wandb.ai/me/run", "trackio_url": None,
        "trainer_name": "DPO", "trainer_citation": "@x{y}", "paper_title": "Direct", "paper_id": "2305.18290",
        **changes,
    }  # fmt: skip
    return str(generate_model_card(**settings))


def test_a_card_by_trl_is_replaced(facts):
    facts = replace(facts, versions=dict.fromkeys(("TRL", "Transformers", "Pytorch", "Datasets", "Tokenizers"), "1"))
    page = refresh(trl_card(base_model="./local/base", model_name="my-model"), facts)
    assert "Quick start" not in page and "None" not in page and "local/base" not in page
    values = front(page)
    assert "licence" not in values and "model_name" not in values
    assert {"old", "generated_from_trainer", "my-run"} <= set(values["tags"])
    assert generated_body(page) == generated_body(refresh(None, facts))


def test_what_a_person_wrote_into_a_card_by_trl_stays(facts):
    card = trl_card().replace("## Training procedure\n", "## Training procedure\n\nI chose the rate by hand.\n")
    card = card.replace("licence: license", "license: mit\nlicence: license") + "\n\n## Limits\n\nMany.\n"
    page = refresh(card, (replace(facts, license=None)))
    assert "## Training procedure\n\nI chose the rate by hand.\n" in page and "## Limits\n\nMany." in page
    assert front(page)["license"] == "mit" and "If you had a time machine" not in page


def test_what_trl_knew_and_we_do_not_stays():
    page = refresh(trl_card(base_model="org/base", dataset_name="org/data"), (Facts(name="x")))
    assert front(page)["base_model"] == "org/base" and front(page)["datasets"] == "org/data"


def card_by_transformers() -> str:
    from transformers.modelcard import TrainingSummary

    return TrainingSummary(
        model_name="out",
        finetuned_from="org/base",
        dataset="ana/sums",
        hyperparameters={"learning_rate": 1e-3, "optimizer": "Use adamw with betas=(0.9,0.999) and epsilon=1e-08 and "
        "optimizer_args=No additional optimizer arguments"},
        eval_results={"Loss": 1.0},
        eval_lines=[{"Training Loss": 1.0, "Epoch": 1, "Step": 1, "Validation Loss": 1.0}],
    ).to_model_card()  # fmt: skip


def test_of_a_card_by_transformers_stays_what_is_not_known():
    page = refresh(card_by_transformers() + "\nMy own words.\n", Facts(name="other"))
    for said in (
        "My own words.",
        "# out\n",
        "- learning_rate: 0.001",
        "- Loss: 1.0",
        "| 1.0           | 1     |",
        "ana/s",
    ):
        assert said in page
    assert "More information needed" not in page and "generated automatically" not in page
    assert "Intended uses" not in page and "perdure:title" not in page


def test_of_a_card_by_transformers_goes_what_the_new_one_says(facts):
    known = replace(facts, name="out", bases=(BaseModel(id="org/base"),), datasets=(Dataset(id="ana/sums"),))
    known = replace(known, versions={"Transformers": "5", "Pytorch": "2", "Datasets": "1", "Tokenizers": "1"})
    table = "| 1.0           | 1     | 1    | 1.0             |"
    page = refresh(card_by_transformers() + "\n## Mine\n\nMy own words.\n", known)
    assert "My own words." in page and (table in page) == ("perdure:curves" not in page)
    for said in ("This model is", "It achieves", "were used during", "### Framework versions", "# out\n\nThis"):
        assert said not in page


FOREIGN = ("trl", "transformers", "peft")


def foreign_card(tool: str) -> str:
    return {"trl": trl_card, "transformers": card_by_transformers, "peft": form_by_peft}[tool]()


@pytest.mark.parametrize("tool", FOREIGN)
def test_what_a_person_wrote_into_any_line_of_another_tool_stays(tool, facts):
    lines = foreign_card(tool).split("\n")
    for index, line in enumerate(lines):
        if index <= lines.index("---", 1) or not line.strip():
            continue
        for edited in (f"{line} MINE", f"MINE {line}", f"{line}\nMINE", f"{line}\n- x: MINE"):
            page = refresh("\n".join((*lines[:index], edited, *lines[index + 1 :])), facts)
            assert page.count("MINE") == 1 and ("\n" in edited or edited in page), edited


def test_metadata_that_no_tool_could_have_written_stays(facts):
    card = trl_card(base_model="org/other").replace("library_name: transformers", "library_name: unsloth")
    card = card.replace("base_model: org/other", "base_model: [my/own, a/b] # both\npipeline_tag: image-text-to-text")
    again = Card.from_facts(facts, existing=card)
    for line in ("library_name: unsloth\n", "base_model: [my/own, a/b] # both\n", "pipeline_tag: image-text-to-text\n"):
        assert line in again.text
    assert {"library_name", "base_model", "pipeline_tag"} <= {conflict.part for conflict in again.conflicts}


def form_by_peft() -> str:
    from huggingface_hub import ModelCardData
    from huggingface_hub import __file__ as client

    form = Path(client).with_name("templates") / "modelcard_template.md"
    tags = ["base_model:adapter:/data/base", "base_model:adapter:org/b", "lora"]
    card = ModelCard.from_template(ModelCardData(library_name="peft", tags=tags), template_path=str(form))
    card.data["base_model"] = "/data/base"
    return f"{card}\n### Framework versions\n\n- PEFT 0.21.2"


def test_the_empty_form_that_peft_saves_is_replaced_and_answers_in_it_stay(facts):
    empty = form_by_peft()
    assert "- PEFT 0.21.2" in refresh(empty, facts)
    facts = replace(facts, versions={"PEFT": "0.21.2"})
    page = refresh(empty, facts)
    assert generated_body(page) == generated_body(refresh(None, facts)) and "/data/base" not in page
    assert front(page)["tags"] == ["base_model:adapter:org/b", "lora", "trl", "dpo", "my-run"]
    answered = empty.replace("# Model Card for Model ID", "# Aurora").replace(
        "### Out-of-Scope Use\n", "### Out-of-Scope Use\n\nMedicine.\n"
    )
    page = refresh(answered, facts)
    assert "# Aurora" in page and "## Uses\n\n### Out-of-Scope Use\n\nMedicine.\n" in page
    assert "Needed" not in page and "perdure:title" not in page and refresh(page, facts) == page


def test_an_adapter_over_a_model_changes_the_library(facts):
    page = refresh(None, facts)
    adapter = replace(facts, weights=Weights(kind="adapter"), bases=(BaseModel(id="org/b", relation="adapter"),))
    data = ModelCard(refresh(page, adapter)).data
    assert (data.library_name, data.base_model, data["base_model_relation"]) == ("peft", "org/b", "adapter")
