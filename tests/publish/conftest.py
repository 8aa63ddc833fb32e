"""Fixtures of the tests of publishing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from publishing import Hub, save_folder

from perdure.hub.server import HubServer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "out")


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with HubServer(tmp_path_factory.mktemp("hub"), user="me", token="hf_tokenOfMe1234567890") as server:
        yield Hub(server.url, server.token, tmp_path_factory.mktemp("home"))
