"""An error arrives in another process as what it was."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from perdure import errors
from perdure.errors import PerdureError

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PerdureError)]
DETAILS: dict[str, Any] = {
    "hint": "Type this.",
    "path": Path("run/model.safetensors"),
    "tensor": "w",
    "expected": 8,
    "got": "blake3:00",
    "differences": ("seed", "model"),
    "findings": (".env:1:token",),
    "rank": 3,
    "retry_after": 2.5,
}


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_json(kind: type[PerdureError]) -> None:
    details = {name: DETAILS[name] for name in inspect.signature(kind).parameters if name != "message"}
    error = kind("It broke.", **details)
    again = PerdureError.from_document(json.loads(json.dumps(error.as_document())))
    assert type(again) is kind
    assert vars(again) == {"message": "It broke.", **details}


def test_every_kind_names_one_class() -> None:
    assert len({kind.kind for kind in CLASSES}) == len(CLASSES) > 10
