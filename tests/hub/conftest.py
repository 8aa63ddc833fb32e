"""A hub on a real socket for each module, and the real client in processes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hubs import TOKEN, Client

from perdure.hub.server import HubServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub"), user="me", token=TOKEN) as running:
        yield running


@pytest.fixture
def client(server: HubServer, tmp_path: Path) -> Client:
    return Client(server.url, TOKEN, tmp_path / "home")
