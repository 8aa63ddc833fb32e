"""A second version costs what is new in it: bytes are counted on the wire, between the real client and the hub."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hubs import TOKEN, Client, ask

from perdure.hub.accounts import Accounts
from perdure.hub.server import HubServer

OTHER = "token-of-somebody-else"
_MIB = 1 << 20
_SIZE = 96 * _MIB


class Meter:
    """A port that passes everything on to a hub and counts what clients send."""

    def __init__(self, url: str) -> None:
        self._target = (str(urlsplit(url).hostname), int(urlsplit(url).port or 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.sent = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for source, sink, counts in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=(source, sink, counts), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 18):
                if counts:
                    self.sent += len(data)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if not counts:  # the answer is the last that passes
            source.close()
            sink.close()

    def close(self) -> None:
        self._listener.close()


@contextmanager
def metered(server: HubServer) -> Iterator[Meter]:
    meter = Meter(server.url)
    try:
        yield meter
    finally:
        meter.close()


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file, and two that each differ from the last in one percent: four runs of bytes, and some that were put in."""
    folder = tmp_path_factory.mktemp("versions")
    data = bytearray(os.urandom(_SIZE))
    (folder / "0").write_bytes(data)
    for version in (1, 2):
        for place in (5, 30, 60, 90):
            start = (place + version) * _MIB
            data[start : start + _SIZE // 400] = os.urandom(_SIZE // 400)
        data[20 * _MIB : 20 * _MIB] = b"a few more bytes"
        (folder / str(version)).write_bytes(data)
    return sorted(folder.iterdir())


_UPLOAD = "api.upload_file(path_or_fileobj=args[1], path_in_repo='model.safetensors', repo_id=args[0])"


def test_the_next_version_costs_its_difference(server: HubServer, tmp_path: Path, versions: list[Path]) -> None:
    assert ask(server.url, "POST", "/api/repos/create", {"name": "me/versions"}).status == 200
    sent = []
    with metered(server) as meter:
        # the second from the machine that sent the first, the third from one that never sent anything
        for version, home in zip(versions, ("home", "home", "other"), strict=True):
            meter.sent = 0
            Client(meter.url, TOKEN, tmp_path / home).run(_UPLOAD, "me/versions", version)
            sent.append(meter.sent)
            assert ask(server.url, "GET", "/me/versions/resolve/main/model.safetensors").body == version.read_bytes()
    assert sent[0] > _SIZE
    assert max(sent[1:]) < _SIZE // 20, f"{sent} of {_SIZE} bytes"


def test_nobody_learns_of_what_they_may_not_read(server: HubServer, tmp_path: Path) -> None:
    hub = server._hub
    assert hub is not None
    accounts = Accounts(hub.db)
    accounts.add_user_with_token("you", OTHER, admin=False, label="test")
    ask(server.url, "POST", "/api/repos/create", {"name": "me/secret", "private": True})
    secret, shared = os.urandom(300_000), os.urandom(300_000)
    for name, data in (("a-shared.bin", shared), ("b-secret.bin", secret)):
        (tmp_path / name).write_bytes(data)
    upload = "api.upload_folder(repo_id='me/secret', folder_path=args[0], allow_patterns='*.bin')"
    Client(server.url, TOKEN, tmp_path / "home").run(upload, tmp_path)
    oid = hashlib.sha256(secret).hexdigest()
    chunk = str(hub.db.rows("SELECT chunk FROM chunks JOIN xorb_uses USING (xorb) WHERE oid = ? LIMIT 1", oid)[0][0])
    for token, name, status in ((TOKEN, "me/mine", 200), (OTHER, "you/loot", 404)):
        ask(server.url, "POST", "/api/repos/create", {"name": name}, token=token)
        access = ask(server.url, "GET", f"/api/models/{name}/xet-write-token/main", token=token).json()
        path = access["casUrl"].removeprefix(server.url) + f"/v1/chunks/default-merkledb/{chunk}"
        assert ask(server.url, "GET", path, token=access["accessToken"]).status == status
        assert ask(server.url, "GET", path).status in {401, 403}


def test_bytes_that_come_by_lfs_and_by_xet_are_one_file(server: HubServer, tmp_path: Path) -> None:
    hub, they = server._hub, "token-of-somebody-who-uses-lfs"
    assert hub is not None
    accounts = Accounts(hub.db)
    accounts.add_user_with_token("they", they, admin=False, label="test")
    clients = {
        "me/by-xet": Client(server.url, TOKEN, tmp_path / "xet"),
        "they/by-lfs": Client(server.url, they, tmp_path / "lfs", xet=False),
    }
    for repo, client in clients.items():
        assert (
            ask(server.url, "POST", "/api/repos/create", {"name": repo, "private": True}, token=client.token).status
            == 200
        )
    upload = "api.upload_file(path_or_fileobj=args[1], path_in_repo=Path(args[1]).name, repo_id=args[0])"
    for order in (("me/by-xet", "they/by-lfs"), ("they/by-lfs", "me/by-xet")):
        file = tmp_path / f"{order[0].partition('/')[0]}-first.bin"
        file.write_bytes(os.urandom(300_000))
        for repo in order:  # neither may know that the other has it, so both send all of it
            with metered(server) as meter:
                Client(meter.url, clients[repo].token, clients[repo].home, xet=clients[repo].xet).run(
                    upload, repo, file
                )
                assert meter.sent > 300_000
        oid = hashlib.sha256(file.read_bytes()).hexdigest()
        assert [path.read_bytes() for path in (server._folder / "blobs").rglob(oid)] == [file.read_bytes()]
        for repo, client in clients.items():
            got = ask(server.url, "GET", f"/{repo}/resolve/main/{file.name}", token=client.token)
            assert (got.status, got.body) == (200, file.read_bytes())
