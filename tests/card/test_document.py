from __future__ import annotations

from dataclasses import replace

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


def test_an_adapter_over_a_model_changes_the_library(facts):
    page = refresh(None, facts)
    adapter = replace(facts, weights=Weights(kind="adapter"), bases=(BaseModel(id="org/b", relation="adapter"),))
    data = ModelCard(refresh(page, adapter)).data
    assert (data.library_name, data.base_model, data["base_model_relation"]) == ("peft", "org/b", "adapter")
