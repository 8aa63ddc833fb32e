"""A hub of the tests' own, and how the libraries under test come to speak with it."""

from __future__ import annotations

import pytest

TOKEN = "hf_tokenOfMe1234567890"


def reach(monkeypatch: pytest.MonkeyPatch, url: str, **environment: str) -> None:
    """Make a hub on this machine the only one that can be reached: its address is read when a library is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name, value in {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": url, **environment}.items():
        monkeypatch.setenv(name, value)
