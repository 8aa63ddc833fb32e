"""Whatever a person does to a card, and however often it is made anew: nothing of theirs is lost.

Examples are not shrunk: each makes a card several times, and a failing one is short enough to read.
"""

from __future__ import annotations

import os
import re
from typing import Any

import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from perdure import BaseModel, Card, Dataset, Evaluation, Facts, License, Training

EXAMPLES = int(os.environ.get("PERDURE_EXAMPLES", "15"))
WORDS = st.text(alphabet=st.sampled_from("ab \n#-`<!>:[]|'\"\\é"), max_size=60)
# Without the line ends that PyYAML, which writes the examples, does not read back as they were.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\x85\ufeff"), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | TEXT | st.floats(allow_nan=False)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner))
UNKNOWN = st.dictionaries(st.text(alphabet="xyz_-", min_size=2, max_size=6).map("x{}".format), VALUES, max_size=3)
TAGS = st.lists(st.sampled_from(["mine", "a: b", "no", "sft", "1e3"]), max_size=3, unique=True)
FACTS = st.builds(
    Facts,
    name=st.sampled_from(["one", "two"]),
    bases=st.sampled_from([(), (BaseModel(id="org/b"),), (BaseModel(id="org/c"), BaseModel(id="org/d"))]),
    datasets=st.sampled_from([(), (Dataset(id="org/data"),)]),
    tags=st.sampled_from([("trl",), ("trl", "sft")]),
    license=st.sampled_from([None, License(id="mit"), License(id="apache-2.0")]),
    languages=st.sampled_from([(), ("no",)]),
    training=st.sampled_from([None, Training(steps=7), Training(steps=8, hyperparameters={"lr": 1e-5})]),
    evaluation=st.sampled_from([(), (Evaluation(metrics={"loss": 0.5}, dataset=Dataset(id="org/e"), task="t"),)]),
)


def with_front(keys: dict[str, Any], tags: list[str]) -> str:
    values = {**keys, **({"tags": tags} if tags else {})}
    return f"---\n# ours\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n" if values else ""


@settings(max_examples=EXAMPLES, phases=[Phase.explicit, Phase.generate])
@given(UNKNOWN, TAGS, st.tuples(WORDS, WORDS, WORDS), st.lists(FACTS, min_size=2, max_size=3))
def test_words_order_keys_and_tags_survive(keys, tags, words, runs):
    (head, middle, tail), (first, *later) = words, runs
    card = Card.from_facts(first, existing=with_front(keys, tags) + head)
    text = card.text.replace("<!-- perdure:summary -->", f"{middle}\n\n<!-- perdure:summary -->", 1)
    record = text.index("<!-- perdure:record")
    text = f"{text[:record]}{tail}\n{text[record:]}"
    measured = Card.parse(text).with_results({"measured": 0.25}, dataset="org/e", task="t")
    for facts in later:
        measured = Card.from_facts(facts, existing=measured, curves=False)
        assert Card.from_facts(facts, existing=measured, curves=False) == measured
    places = [measured.text.find(words.strip()) for words in (head, middle, tail)]
    assert min(places) >= 0
    order = [key for key in measured.metadata if key in keys]
    read = Card.parse(with_front(keys, [])).metadata
    assert order == list(keys) and {key: measured.metadata[key] for key in keys} == read == keys
    assert measured.metadata["tags"][: len(tags)] == tags and ("# ours" in measured.text or not (keys or tags))
    assert "| `measured` | 0.25 |" in measured.text and "measured" in str(measured.metadata["model-index"])


@settings(max_examples=EXAMPLES, phases=[Phase.explicit, Phase.generate])
@given(FACTS, FACTS, st.data())
def test_what_a_person_changed_stays_and_is_told(before, after, data):
    card = Card.from_facts(before)
    regions = re.findall(r"<!-- perdure:([a-z]+) -->\n", card.text)
    name = data.draw(st.sampled_from(regions))
    edited = re.sub(rf"(<!-- perdure:{name} -->\n)", r"\1Edited by hand.\n", card.text)
    license_ = data.draw(st.sampled_from(["mit", "gpl-3.0"]))
    edited = Card.parse(edited).with_metadata({"license": license_}).text
    again = Card.from_facts(after, existing=Card.from_facts(after, existing=edited))
    assert again.text.count("Edited by hand.") == 1
    said = after.license and after.license.id
    told = {conflict.part for conflict in again.conflicts}
    was = before.license and before.license.id
    if was != license_:
        assert again.metadata["license"] == license_ and ("license" in told) == (said not in (None, was, license_))
    renewed = Card.from_facts(after, existing=again, renew=told)
    assert not renewed.conflicts and (name not in told or "Edited by hand." not in renewed.text)
