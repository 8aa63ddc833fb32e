"""Fixtures of the tests of publishing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.hub.auth import token_digest
from perdure.hub.db import Database
from perdure.hub.server import HubServer
from publishing import GUEST, READER, Hub, save_folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "out")


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with its administrator `me`, and a user `guest`, who has a token to write and one only to read."""
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(folder, user="me", token="hf_tokenOfMe1234567890") as server:
        accounts = Database(folder / "hub.sqlite3")
        guest = accounts.add_user("guest", admin=False)
        accounts.add_token(guest, token_digest(GUEST), role="write", label="test")
        accounts.add_token(guest, token_digest(READER), role="read", label="test")
        accounts.close()
        assert server.token is not None
        yield Hub(server.url, server.token, tmp_path_factory.mktemp("home"))
