"""Xet clients remember what they sent: to a store that was wiped or put back, and for the next version."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hubs import TOKEN, Client, ask

from perdure.hub.server import HubServer


def _push(client: Client, file: Path) -> Path:
    got = client.run(
        """
        api.create_repo("me/m", exist_ok=True)
        api.upload_file(repo_id="me/m", path_or_fileobj=args[0], path_in_repo="w.bin")
        print(json.dumps(hf_hub_download("me/m", "w.bin", cache_dir=args[0] + "-cache")))
        """,
        file,
    )
    return Path(got)


@pytest.mark.parametrize("lost", [["xorbs", "blobs"], ["xorbs"], ["blobs"], ["."]])
def test_a_wiped_store_with_a_warm_client_loses_no_bytes(tmp_path: Path, lost: list[str]) -> None:
    """The client remembers by address what it has sent: to a store that forgot, it would send nothing again."""
    store, file = tmp_path / "store", tmp_path / "w.bin"
    file.write_bytes(os.urandom(1_000_000))
    with HubServer(store, user="me", token=TOKEN) as first:
        client = Client(first.url, TOKEN, tmp_path / "home")
        assert _push(client, file).read_bytes() == file.read_bytes()
        port = int(first.url.rpartition(":")[2])
    for name in lost:
        shutil.rmtree(store / name)
    with HubServer(store, user="me", token=TOKEN, port=port) as second:
        assert second.url == first.url
        if lost != ["."]:
            ask(second.url, "DELETE", "/api/repos/delete", {"name": "m"})
        shutil.rmtree(f"{file}-cache")
        assert _push(client, file).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("lost", ["emptied", "restored"])
def test_after_xorbs_vanished_the_second_push_succeeds(tmp_path: Path, lost: str) -> None:
    """A push that builds on what is gone fails; it makes the client forget, so that the next one sends it again."""
    store, backup = tmp_path / "store", tmp_path / "backup"
    one, two = tmp_path / "one.bin", tmp_path / "two.bin"
    for file in (one, two):
        file.write_bytes(os.urandom(1_000_000))
    with HubServer(store, user="me", token=TOKEN) as hub:
        client = Client(hub.url, TOKEN, tmp_path / "home")
        _push(client, one)
        port = int(hub.url.rpartition(":")[2])
    shutil.copytree(store, backup)
    with HubServer(store, user="me", token=TOKEN, port=port):
        _push(client, two)
    if lost == "restored":
        shutil.rmtree(store)
        backup.rename(store)
    else:
        for path in [*(store / "xorbs").iterdir(), *(store / "blobs").iterdir()]:
            shutil.rmtree(path)
    shutil.rmtree(f"{two}-cache")
    script = """
        api.create_repo("me/n", exist_ok=True)
        api.upload_file(repo_id="me/n", path_or_fileobj=args[0], path_in_repo="w.bin")
        print(json.dumps(hf_hub_download("me/n", "w.bin", cache_dir=args[0] + "-cache")))
    """
    with HubServer(store, user="me", token=TOKEN, port=port) as hub:
        assert client.fail(script, two)
        assert ask(hub.url, "GET", "/api/models/me/n/commits/main").json()[0]["title"] == "initial commit"
        assert Path(client.run(script, two)).read_bytes() == two.read_bytes()


def test_a_second_version_sends_only_what_changed(server: HubServer, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    data = bytearray(os.urandom(8_000_000))
    file.write_bytes(data)
    _push(client, file)
    before = _size(server._folder / "xorbs")
    data[4_000_000:4_000_100] = os.urandom(100)
    file.write_bytes(data)
    shutil.rmtree(f"{file}-cache")
    assert _push(client, file).read_bytes() == data
    assert _size(server._folder / "xorbs") - before < 1_000_000


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
