"""Metadata that is made to run code, to take the hub's time or memory, or to break what reads it."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from perdure.hub import limits
from perdure.hub.card import CardError, read_metadata

ROOM = limits.CARD_METADATA - 10


def read(block: str) -> dict[str, object]:
    return read_metadata(f"---\n{block}\n---\n")


@pytest.mark.parametrize(
    "block",
    [
        "a: !!python/object/apply:os.system [exit]",
        "a: !!python/name:os.system",
        "a: !!timestamp x",
        "a: !!bool x",
        "a: !!int ''",
        "a: !!int '1:59'",
        "a: !!float ''",
        "a: !!set {x, y}",
        "a: !x y",
    ],
)
def test_tags_are_refused(block: str) -> None:
    with pytest.raises(CardError, match="tags"):
        read(block)


@pytest.mark.parametrize(
    "block",
    [
        "a: 1.0e+400",
        "a: .nan",
        ".inf: a",
        "a: 2001-99-99",
        "2001-01-01: a",
        "? [a]\n: b",
        "a: =",
        "<<: x",
        'a: "\\ud800"',
        "a: \0",
        "%YAML 9.9",
    ],
)
def test_what_json_cannot_carry_is_refused(block: str) -> None:
    with pytest.raises(CardError):
        read(block)


@pytest.mark.parametrize("end", ["", ".5"])
def test_numbers_in_base_60_are_text(end: str) -> None:
    digits = "1" + ":59" * ((ROOM - 10) // 3) + end  # as a number it would take seconds, or raise
    assert read(f"a: {digits}\nb: 1:30:00") == {"a": digits, "b": "1:30:00"}


def test_merge_keys_merge_and_do_not_multiply() -> None:
    assert read("<<: [{a: 1}, {b: 2}]\nb: 3") == {"a": 1, "b": 3}
    assert read("<<: [" + "{a: 1}," * 20_000 + "]") == {"a": 1}


def test_all_other_numbers_are_those_of_yaml() -> None:
    block = "a: [0, -0, +7, 010, 0b11, 0x1F, 1_000, 1., -1.5, .5, 1.5e+3, 1.5E-3, 1e3, 1.5e3, 08]"
    assert read(block) == yaml.safe_load(block)
    assert math.isclose(read("a: 6.85e+4")["a"], 68_500)  # type: ignore[arg-type]


@given(
    st.lists(st.sampled_from([*"-+.:?!&*%@|>#,[]{}'\"=<~_\n 019aexbon", "<<", "!!", "inf", ": ", "- "]), max_size=30)
)
def test_a_card_is_read_or_refused(parts: list[str]) -> None:
    try:
        assert isinstance(read("".join(parts)), dict)
    except CardError as refused:
        assert str(refused)


@pytest.mark.parametrize("number", ["9" * ROOM, "0x" + "f" * ROOM])
def test_a_number_that_no_reader_holds_is_text(number: str) -> None:
    assert read(f"a: {number}") == {"a": number}
