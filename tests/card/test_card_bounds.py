"""Cards that were made to take time: each would take minutes where the work grows with the square of the length."""

from __future__ import annotations

import pytest

from perdure import Card, Facts, License, Method, Training

MANY = 50_000
HOSTILE = {
    "marks that nothing closes": "<!-- perdure:a -->\n" * MANY,
    "a fence that nothing closes": "`" * MANY + "\n" + "~~~ x\n" * MANY,
    "a title of marks": "# a" + " #" * MANY,
    "a badge in a badge": "It has been trained using [TRL](https://github.com/huggingface/trl)\n\n"
    + '[<img src="https://raw.githubusercontent.com/wandb/' * MANY,
    "numbers in base 60": "---\nx: 1" + ":1" * MANY + "\n---\n",
    "lists in lists": "---\nx:\n  " + "- " * MANY + "\n---\n",
    "an address of colons": "://" + ":" * MANY,
    "a link of any length": "[x](" + "y" * MANY + ")",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_card_takes_more_time_than_its_length(text, tmp_path):
    card = Card.from_facts(Facts(name="x", license=License(id="mit")), existing=text)
    card.with_results({"accuracy": 0.5}).check(tmp_path)
    assert text.strip("-\n") in card.text


@pytest.mark.parametrize(
    "value", ["{1: a, b: c}", "{2020-01-01: a}", "0x" + "f" * MANY, "9" * MANY, "{a: {1: 2, c: d}}", ".nan"]
)
def test_a_value_of_any_shape_is_a_persons(value):
    page = Card.from_facts(Facts(name="x", license=License(id="mit"))).text.replace("license: mit", f"license: {value}")
    again = Card.from_facts(Facts(name="x", license=License(id="apache-2.0")), existing=page)
    assert f"license: {value}\n" in again.text and [one.part for one in again.conflicts] == ["license"]
    assert again.check()


def test_nothing_that_is_told_ends_its_place_on_the_page():
    entry = "@x{\n<!-- /perdure:citation -->\n<!-- perdure:record {} -->\n\x1b[2K\r}"
    training = Training(method=Method(name="X", citation=entry), logs={"W&B": "https://wandb.ai/me/run\\"})
    facts = Facts(name="x", training=training, versions={"# x": "- y"})
    card = Card.from_facts(facts)
    assert Card.from_facts(facts, existing=card) == card and not Card.from_facts(facts, renew=["citation"]).conflicts
    assert "\n <!-- /perdure:citation -->\n" in card.text and "\x1b" not in card.text and "\r" not in card.text
    assert "(https://wandb.ai/me/run%5C)" in card.text and "- \\# x: " in card.text
