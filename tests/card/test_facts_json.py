from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.card.allowed import is_path
from perdure.card.facts import Dataset, Evaluation, Facts, License, Quantization, Weights
from perdure.card.secrets import is_secret
from perdure.card.training import Energy, Hardware, Source
from perdure.errors import InvalidInput, UnsupportedFormat


def whole(facts: Facts) -> Facts:
    """Facts with something in every record."""
    training = facts.training
    assert training is not None
    return replace(
        facts,
        license=License(id="other", name="my-terms", link="https://example.org/terms"),
        datasets=(*facts.datasets, Dataset(split="test", rows=7, fingerprint="0a1b", use="evaluation")),
        weights=Weights(kind="adapter", parameters=3, dtypes={"float32": 3}, quantization=Quantization(method="nf4")),
        evaluation=(Evaluation(metrics={"eval_loss": 0.5, "late": math.inf}, dataset=Dataset(id="org/d")),),
        training=replace(
            training,
            history={"loss": ((1, 2.5), (2, 1.25))},
            hardware=Hardware(name="GPU", count=2, memory=2**36),
            source=Source(commit="0a1b2c3", dirty=True, repository="https://example.org/me/x", script="train.py"),
            energy=Energy(kwh=0.25, co2_kg=0.1),
        ),
    )


def test_facts_survive_the_way_through_a_file(facts):
    every = whole(facts)
    assert Facts.from_json(every.to_json()) == every
    assert Facts.from_json(every.to_json().encode()) == every
    nan = Facts(name="x", evaluation=(Evaluation(metrics={"eval_loss": math.nan}),))
    assert math.isnan(Facts.from_json(nan.to_json()).evaluation[0].metrics["eval_loss"])


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{}", '{"perdure_facts": true}', "[" * 100_000, "\x00", '{"perdure_facts": 1}']
)
def test_what_are_no_facts(text):
    with pytest.raises(InvalidInput):
        Facts.from_json(text)


def test_facts_of_a_newer_perdure():
    with pytest.raises(UnsupportedFormat, match="version 2"):
        Facts.from_json('{"perdure_facts": 2, "name": "x"}')


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from(["/etc/passwd", "hf_" + "a" * 30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def _places(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for name, item in items for place in _places(item, (*at, name)))]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_hostile_facts_are_refused_or_say_what_a_card_may_say(facts, data):
    document = json.loads(whole(facts).to_json())
    *path, last = data.draw(st.sampled_from(_places(document)[1:]))
    place = document
    for name in path:
        place = place[name]
    place[last] = data.draw(_VALUES)
    try:
        read = Facts.from_json(json.dumps(document))
    except (InvalidInput, UnsupportedFormat):
        return
    assert Facts.from_json(read.to_json()).to_json() == read.to_json()
    assert "hf_aaaa" not in read.to_json() and "/etc" not in read.to_json()
    assert not is_path(read.name or "x") and not is_secret(read.name or "x")
