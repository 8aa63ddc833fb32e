"""Clients that only take up room: slow, silent, or too many. Each is bounded, and an ordinary client gets through."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest
from hubs import TOKEN, ask, ndjson

from perdure.hub import limits
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


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _open(server: HubServer) -> int:
    assert server._server is not None
    return len(server._server.server_state.connections)


@pytest.fixture(autouse=True)
def nobody_else(server: HubServer) -> None:
    _until(lambda: _open(server) == 0)


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
        _until(lambda: _open(server) == 2)
        refused = ask(server.url, "POST", "/api/validate-yaml", {"content": "x" * 100_000})
        assert (refused.status, refused.headers["retry-after"]) == (503, str(limits.BUSY_SECONDS))
        assert "too much to do" in refused.json()["error"] and refused.headers["connection"] == "close"
    _until(lambda: _open(server) == 0)
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
        _until(lambda: _open(server) == 0)
        assert len(_ended(raw)) < len(data)
