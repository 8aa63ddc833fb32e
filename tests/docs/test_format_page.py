"""docs/format.md names what the code writes: the manifest's keys, the kinds, the tags of values, a module's keys."""

from __future__ import annotations

import collections
import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

import perdure
from perdure.checkpoint.snapshot import KIND
from perdure.format.manifest import Manifest
from perdure.model.kind import Kind
from perdure.state import buckets, tree
from perdure.state.capture import capture_module
from perdure.state.tree import encode

PAGE = (Path(perdure.__file__).parents[2] / "docs/format.md").read_text()
EACH_KIND = [
    2**60, float("nan"), 1j, b"", (), set(), frozenset(), torch.Size([]), {1: 1}, collections.OrderedDict(),
    collections.Counter(), torch.ones(1), np.ones(1), np.float32(1), torch.int8, torch.device("cpu"),
]  # fmt: skip


def rows(first: str, after: str = "") -> dict[str, str]:
    """The first table, `after` some text, that begins with `first`: name in a row's first cell → the other cells."""
    rest = PAGE[PAGE.index(after) :]
    table = re.search(rf"^\| {re.escape(first)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", rest, re.MULTILINE)
    assert table is not None
    found: dict[str, str] = {}
    for line in table[1].splitlines():
        cell, _, others = line.strip("| ").partition(" | ")
        found.update(dict.fromkeys(re.findall(r"`([^`]+)`", cell), others))
    return found


def test_the_manifests_keys() -> None:
    written = Manifest(kind="checkpoint", files={}, step=1, epoch=0.5, metrics={"loss": 1.0}).encode()
    assert rows("Key").keys() == json.loads(written).keys()


def test_the_kinds() -> None:
    assert set(re.findall(r'"(\w+)"', rows("Key")["kind"])) == {*get_args(Kind), KIND}


@pytest.mark.parametrize("value", EACH_KIND, ids=lambda value: type(value).__name__)
def test_the_keys_of_an_encoded_value(value: Any) -> None:
    document, _ = encode(value, "value")
    keys = rows("`$`")[document["$"]].partition(" | ")[0]
    assert set(re.findall(r"`(\w+)`", keys)) == document.keys() - {"$"}


def test_the_tags_are_those_that_are_written_and_read() -> None:
    written = {encode(value, "value")[0]["$"] for value in EACH_KIND}
    read = {"tensor", "array", "scalar", *tree._SEQUENCES, *tree._MAPS, *tree._LEAVES}
    assert rows("`$`").keys() == written == read


def test_a_modules_keys() -> None:
    class Counting(torch.nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 3}

    part = capture_module("model", Counting(1, 1), "adapter", {}, {"active": [], buckets.ORDER: [0, 1]})
    assert rows("Key", after="### Modules").keys() == part.document.keys()
