"""Clients that only take up room: slow, silent, or too many. Each is bounded, and an ordinary client gets through."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gits import Git, needs_git
from hubs import TOKEN, ask, ndjson, wait_until

from perdure.hub import commits, limits
from perdure.hub.accounts import Accounts
from perdure.hub.attributes import Ignore
from perdure.hub.db import open_database
from perdure.hub.server import HubServer

_HEAD = b"GET /api/models HTTP/1.1\r\nHost: x\r\n"
_BODY = b"POST /api/validate-yaml HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"


@contextmanager
def _connected(server: HubServer, sent: bytes) -> Iterator[socket.socket]:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as raw:
        raw.sendall(sent)
        yield raw


def _ended(raw: socket.socket) -> bytes:
    """What the hub sent until it closed the connection."""
    received = b""
    try:
        while data := raw.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def _open(server: HubServer) -> int:
    assert server._server is not None
    return len(server._server.server_state.connections)


@pytest.fixture(autouse=True)
def nobody_else(server: HubServer) -> None:
    wait_until(lambda: _open(server) == 0)


def test_a_head_that_does_not_end_is_not_waited_for(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.2)
    for sent in (b"", _HEAD, _HEAD + b"\r\n" + _HEAD):  # also that of a second request
        with _connected(server, sent) as raw:
            assert _ended(raw).count(b"HTTP/1.1 200") == sent.count(b"\r\n\r\n")


def test_who_only_holds_connections_keeps_nobody_out(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 8)
    with ExitStack() as stack:
        held = [stack.enter_context(_connected(server, _HEAD)) for _ in range(40)]
        for _ in range(5):
            assert ask(server.url, "GET", "/api/models").status == 200
        assert _open(server) <= 8
        assert _ended(held[0]) == b""


def test_beyond_the_bound_it_says_that_it_is_busy(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    with _connected(server, _BODY), _connected(server, _BODY):
        wait_until(lambda: _open(server) == 2)
        refused = ask(server.url, "POST", "/api/validate-yaml", {"content": "x" * 100_000})
        assert (refused.status, refused.headers["retry-after"]) == (503, str(limits.BUSY_SECONDS))
        assert "too much to do" in refused.json()["error"] and refused.headers["connection"] == "close"
    wait_until(lambda: _open(server) == 0)
    assert ask(server.url, "GET", "/api/models").status == 200


def test_a_body_that_drips_is_given_up(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SILENCE_SECONDS", 0.5)
    with _connected(server, _BODY) as raw:
        raw.settimeout(0.1)
        answer = b""
        for _ in range(600):
            try:
                answer = raw.recv(4096)
                break
            except TimeoutError:
                raw.sendall(b"x")
        assert b"408" in answer


def test_an_answer_that_nobody_reads_is_given_up(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(16 << 20)
    oid = hashlib.sha256(data).hexdigest()
    assert ask(server.url, "POST", "/api/repos/create", {"name": "large"}).status == 200
    wanted = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    batch = ask(server.url, "POST", "/me/large.git/info/lfs/objects/batch", wanted).json()
    link = batch["objects"][0]["actions"]["upload"]["href"].removeprefix(server.url)
    assert ask(server.url, "PUT", link, data, token=None).status == 200
    entry = {"path": "w.bin", "algo": "sha256", "oid": oid}
    assert ask(server.url, "POST", "/api/models/me/large/commit/main", ndjson(("lfsFile", entry))).status == 200
    monkeypatch.setattr(limits, "UNREAD_SECONDS", 0.3)
    head = f"GET /me/large/resolve/main/w.bin HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    with _connected(server, head.encode()) as raw:
        assert raw.recv(8) == b"HTTP/1.1"
        wait_until(lambda: _open(server) == 0)
        assert len(_ended(raw)) < len(data)


_REFS = "/me/slow.git/info/refs?service=git-upload-pack"
_WAITS = """#!/bin/sh
sleep 600 &
echo $$ $! >> "{log}"
wait
"""


@pytest.fixture
def endless(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Git as one that never ends, and the ids of the processes it was: a repository that takes hours has no test."""
    ask(server.url, "POST", "/api/repos/create", {"name": "slow"})
    script, log = tmp_path / "bin" / "git", tmp_path / "log"
    script.parent.mkdir()
    script.write_text(_WAITS.format(log=log))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return lambda: [int(pid) for pid in log.read_text().split()] if log.exists() else []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _request(method: str, path: str, body: bytes = b"", token: str = TOKEN) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


_FETCH = _request("POST", "/me/slow.git/git-upload-pack", b"0000")


@needs_git
@pytest.mark.parametrize("sent", [_request("GET", _REFS), _FETCH])
def test_git_ends_when_its_client_goes(server: HubServer, endless: Callable[[], list[int]], sent: bytes) -> None:
    with _connected(server, sent):
        wait_until(lambda: len(endless()) == 2)
        assert all(_runs(pid) for pid in endless())
    wait_until(lambda: not any(_runs(pid) for pid in endless()))


@needs_git
@pytest.mark.parametrize(("sent", "said"), [(_request("GET", _REFS), b"408"), (_FETCH, b"200")])
def test_git_ends_when_it_takes_too_long(
    server: HubServer, endless: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch, sent: bytes, said: bytes
) -> None:
    monkeypatch.setattr(limits, "GIT_SECONDS", 0.5)
    with _connected(server, sent) as raw:
        assert said in raw.recv(15)
        wait_until(lambda: len(endless()) == 2 and not any(_runs(pid) for pid in endless()))


@needs_git
def test_one_callers_clones_keep_no_other_out(
    tmp_path: Path, endless: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"GIT_AT_ONCE": 2, "GIT_EACH": 1, "GIT_PATIENCE_SECONDS": 0.5, "WAITING": 3}.items():
        monkeypatch.setattr(limits, name, value)
    with HubServer(tmp_path / "hub", user="me", token=TOKEN) as hub:
        ask(hub.url, "POST", "/api/repos/create", {"name": "slow", "private": False})
        db = open_database(tmp_path / "hub")
        Accounts(db).add_user_with_token("you", "token-of-another", admin=False, label="test")
        db.close()
        with ExitStack() as stack:
            stack.enter_context(_connected(hub, _FETCH))
            wait_until(lambda: len(endless()) == 2)
            sockets = [stack.enter_context(_connected(hub, _FETCH)) for _ in range(5)]
            refused = [raw for raw in sockets if b"503" in raw.recv(15)]
            assert len(refused) == 5 and b"retry-after: 5" in refused[0].recv(4096).lower()
            assert len(endless()) == 2  # of all these, one is at work
            stack.enter_context(_connected(hub, _request("GET", _REFS, token="token-of-another")))
            wait_until(lambda: len(endless()) == 4)
            assert ask(hub.url, "GET", "/api/models").status == 200
        monkeypatch.undo()
        wait_until(lambda: _open(hub) == 0)
        assert Git(hub.url, tmp_path / "git").clone("me/slow").is_dir()


def test_one_callers_requests_leave_others_a_thread(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(server.url, "POST", "/api/repos/create", {"name": "busy", "private": False})
    begun, go = threading.Semaphore(0), threading.Event()

    def slow(text: str) -> Ignore:  # a fault that cannot be had otherwise: patterns that take as long as we like
        begun.release()
        assert go.wait(60)
        return Ignore(text)

    monkeypatch.setattr(commits, "Ignore", slow)
    body = {"files": [{"path": "a", "size": 1}]}
    with ThreadPoolExecutor(50) as pool:  # more than there are threads for all
        address = "/api/models/me/busy/preupload/main"
        asked = [pool.submit(ask, server.url, "POST", address, body) for _ in range(50)]
        try:
            for _ in range(limits.HANDLERS_EACH):
                assert begun.acquire(timeout=60)
            assert ask(server.url, "GET", "/api/models/me/busy", token=None).status == 200
            assert not begun.acquire(blocking=False)
        finally:
            go.set()
        assert [answer.result().status for answer in asked] == [200] * 50
