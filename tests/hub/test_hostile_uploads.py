"""Uploads that break off, lie about themselves, or come by links that nobody made: refused, and nothing is kept."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from hubs import TOKEN, ask, ndjson, stored, wait_until

from perdure.hub.accounts import Accounts, token_digest
from perdure.hub.db import open_database
from perdure.hub.server import HubServer

DATA = b"the bytes of a file" * 10_000
OID = hashlib.sha256(DATA).hexdigest()
OTHER = "token-of-somebody-else"


@pytest.fixture(scope="module", autouse=True)
def repo(server: HubServer) -> None:
    assert ask(server.url, "POST", "/api/repos/create", {"name": "target"}).status == 200
    db = open_database(server._folder)
    Accounts(db).add_user_with_token("you", OTHER, admin=False, label="test")
    db.close()


@pytest.fixture(autouse=True)
def nothing_is_kept(server: HubServer) -> Iterator[None]:
    before = stored(server._folder)
    yield
    wait_until(lambda: stored(server._folder) == before)  # a request that broke off is noticed a moment later
    assert ask(server.url, "POST", "/me/target.git/info/lfs/objects/verify", {"oid": OID, "size": 1}).status == 404


def _link(server: HubServer, size: int = len(DATA)) -> str:
    body = {"operation": "upload", "objects": [{"oid": OID, "size": size}]}
    answer = ask(server.url, "POST", "/me/target.git/info/lfs/objects/batch", body).json()
    return str(answer["objects"][0]["actions"]["upload"]["href"]).removeprefix(server.url)


def _chunked(server: HubServer, path: str, chunks: Iterator[bytes], method: str = "POST") -> int:
    """A body that does not say how long it is; the answer's status, or 413 when a server that goes on had enough."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    try:
        headers = {"Transfer-Encoding": "chunked", "Authorization": f"Bearer {TOKEN}"}
        connection.request(method, path, chunks, headers, encode_chunked=True)
        return connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        assert ask(server.url, "GET", "/api/models/me/target").status == 200
        return 413
    finally:
        connection.close()


def test_an_upload_that_breaks_off(server: HubServer) -> None:
    address = urlsplit(server.url)
    before = stored(server._folder)
    with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
        head = f"PUT {_link(server)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n"
        raw.sendall(head.encode() + DATA[:100_000])
        wait_until(lambda: stored(server._folder) > before)


@pytest.mark.parametrize(
    "sent", [DATA[:-1], DATA + b"x", DATA[::-1], b""], ids=["too short", "too long", "other bytes", "nothing"]
)
def test_bytes_that_are_not_the_file(server: HubServer, sent: bytes) -> None:
    assert ask(server.url, "PUT", _link(server), sent, token=None).status == 400
    assert _chunked(server, _link(server), iter([sent]), "PUT") == (413 if len(sent) > len(DATA) else 400)


def test_a_size_that_is_not_the_files(server: HubServer) -> None:
    for size in (1, len(DATA) - 1, len(DATA) + 1):
        assert ask(server.url, "PUT", _link(server, size), DATA, token=None).status == 400
    body = {"operation": "upload", "objects": [{"oid": OID, "size": 1 << 60}, {"oid": OID, "size": -1}]}
    answer = ask(server.url, "POST", "/me/target.git/info/lfs/objects/batch", body).json()
    assert [item["error"]["code"] for item in answer["objects"]] == [422, 422]


def test_links_that_nobody_made_or_that_ended(server: HubServer) -> None:
    assert server._hub is not None
    signer, repo = server._hub.signer, server._hub.db.repo("model", "me", "target")
    assert repo is not None
    claims = {"oid": OID, "size": len(DATA), "repo": repo.id, "token": token_digest(TOKEN).hex()[:12]}
    expired = signer.sign("lfs-upload", -1, **claims)
    foreign = type(signer)(b"another key" * 3).sign("lfs-upload", 60, **claims)
    body, mac = signer.sign("lfs-upload", 60, **claims).split(".")
    more = signer.sign("lfs-upload", 60, **{**claims, "size": 1 << 50}).split(".")[0]
    for signature in (expired, foreign, f"{body}.", body, f"{more}.{mac}", f"{body}.{mac[:-2]}", "", ".", "a" * 5000):
        answer = ask(server.url, "PUT", f"/lfs/objects/{OID}?signature={signature}", DATA, token=None)
        assert answer.status == 403, answer.body
    gone = signer.sign("lfs-upload", 60, **{**claims, "repo": "0" * 32})
    assert ask(server.url, "PUT", f"/lfs/objects/{OID}?signature={gone}", DATA, token=None).status == 404
    fetch = {"oid": OID, "repo": repo.id, "token": claims["token"]}
    expired = signer.sign("lfs-download", -1, **fetch)
    foreign = type(signer)(b"another key" * 3).sign("lfs-download", 60, **fetch)
    for_uploads, for_another = signer.sign("lfs-upload", 60, **claims), signer.sign("lfs-download", 60, **fetch)
    for signature in (expired, foreign, for_uploads, f"{for_another.split('.')[0]}.", "", "a" * 5000):
        answer = ask(server.url, "GET", f"/lfs/objects/{OID}?signature={signature}", token=None)
        assert answer.status == 403, answer.body
    assert ask(server.url, "GET", f"/lfs/objects/{'1' * 64}?signature={for_another}", token=None).status == 403
    ended = signer.sign("xet-write", -1, repo=repo.id)
    cas = ask(server.url, "GET", "/api/models/me/target/xet-write-token/main").json()["casUrl"]
    path = cas.removeprefix(server.url)
    assert ask(server.url, "POST", f"{path}/v1/xorbs/default/{OID}", DATA, token=ended).status == 403


def test_links_end_with_the_token_they_were_made_for(server: HubServer) -> None:
    assert server._hub is not None
    accounts = Accounts(server._hub.db)
    you, shortlived = accounts.require_user("you"), "token-that-is-revoked"
    known = accounts.add_token(you, shortlived, role="write", label="test")
    assert ask(server.url, "POST", "/api/repos/create", {"name": "gone"}, token=shortlived).status == 200
    data = b"links" * 10_000
    oid = hashlib.sha256(data).hexdigest()

    def link(operation: str) -> str:
        body = {"operation": operation, "objects": [{"oid": oid, "size": len(data)}]}
        answer = ask(server.url, "POST", "/you/gone.git/info/lfs/objects/batch", body, token=shortlived).json()
        return str(answer["objects"][0]["actions"][operation]["href"]).removeprefix(server.url)

    put = link("upload")
    assert ask(server.url, "PUT", put, data, token=None).status == 200
    get = link("download")
    xet = ask(server.url, "GET", "/api/models/you/gone/xet-write-token/main", token=shortlived).json()
    shards = xet["casUrl"].removeprefix(server.url) + "/v1/shards"
    assert ask(server.url, "GET", get, token=None).body == data
    assert ask(server.url, "POST", shards, b"", token=xet["accessToken"]).status == 400
    accounts.revoke_token(known.id)
    assert ask(server.url, "GET", get, token=None).status == 403
    assert ask(server.url, "PUT", put, data, token=None).status == 403
    assert ask(server.url, "POST", shards, b"", token=xet["accessToken"]).status == 403
    assert ask(server.url, "DELETE", "/api/repos/delete", {"name": "you/gone"}).status == 200
    shutil.rmtree(server._hub.blobs.path(oid).parents[1])


def test_another_users_token(server: HubServer) -> None:
    link = {"operation": "upload", "objects": [{"oid": OID, "size": len(DATA)}]}
    commit = ndjson(("file", {"path": "a", "content": "YQ==", "encoding": "base64"}))
    requests = [
        ("POST", "/me/target.git/info/lfs/objects/batch", link),
        ("POST", "/me/target.git/info/lfs/objects/verify", {"oid": OID, "size": len(DATA)}),
        ("GET", "/api/models/me/target/xet-write-token/main", None),
        ("POST", "/api/models/me/target/commit/main", commit),
        ("POST", "/api/models/me/target/commit/main?create_pr=1", commit),
        ("POST", "/api/models/me/target/branch/theirs", {}),
        ("POST", "/api/models/me/target/tag/main", {"tag": "theirs"}),
        ("POST", "/api/models/me/target/super-squash/main", {}),
        ("PUT", "/api/models/me/target/settings", {"private": False}),
        ("DELETE", "/api/repos/delete", {"name": "target", "organization": "me"}),
        ("POST", "/api/repos/move", {"fromRepo": "me/target", "toRepo": "you/target", "type": "model"}),
        ("GET", "/me/target.git/info/refs?service=git-receive-pack", None),
    ]
    for method, path, body in requests:
        answer = ask(server.url, method, path, body, token=OTHER)
        assert answer.status == 404, (path, answer.body)
        assert b"target" not in answer.body
    assert [c["title"] for c in ask(server.url, "GET", "/api/models/me/target/commits/main").json()] == [
        "initial commit"
    ]


def test_bodies_that_do_not_say_how_long_they_are_are_bounded(server: HubServer) -> None:
    mebibyte = b" " * (1 << 20)
    assert _chunked(server, "/api/repos/create", iter([mebibyte] * 6)) == 413
    assert _chunked(server, "/api/models/me/target/commit/main", iter([b'{"key": "' + mebibyte * 15])) == 413
    assert _chunked(server, _link(server, 5), iter([DATA]), "PUT") == 413


@pytest.mark.parametrize("name", ["a\r\nX-Injected: 1", "a%0d%0aX-Injected:%201", "ü\u2028\U0001f917"])
def test_no_name_gets_into_the_headers(server: HubServer, name: str) -> None:
    answer = ask(server.url, "POST", "/api/repos/create", {"name": name})
    assert answer.status == 400
    assert "x-injected" not in answer.headers
    commit = ndjson(("deletedFile", {"path": name.replace("\r\n", "%0d%0a")}))
    answer = ask(server.url, "POST", "/api/models/me/target/commit/main", commit)
    assert answer.status in {400, 404}
    assert "x-injected" not in answer.headers


def test_a_message_that_would_end_in_a_space_is_still_an_answer(server: HubServer) -> None:
    answer = ask(server.url, "POST", "/api/models/me/target/branch/new", {"startingPoint": ""})
    assert (answer.status, answer.headers["x-error-message"]) == (404, "Invalid rev id:")
