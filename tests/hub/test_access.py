"""Who may see and do what: private repositories, read-only tokens, links that sign themselves, borrowed digests."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hubs import TOKEN, ask, ndjson

from perdure.hub.accounts import Accounts
from perdure.hub.db import open_database
from perdure.hub.server import HubServer

OTHER = "token-of-somebody-else"
READER = "token-that-may-only-read"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    folder = tmp_path_factory.mktemp("hub")
    with HubServer(folder, user="me", token=TOKEN) as running:
        db = open_database(folder)
        accounts = Accounts(db)
        accounts.add_user_with_token("you", OTHER, admin=False, label="test")
        accounts.add_token(accounts.require_user("me"), READER, role="read", label="test")
        db.close()
        ask(running.url, "POST", "/api/repos/create", {"name": "secret"})
        ask(running.url, "POST", "/api/repos/create", {"name": "open", "private": False})
        ask(running.url, "POST", "/api/repos/create", {"name": "old"})
        ask(running.url, "POST", "/api/repos/move", {"fromRepo": "me/old", "toRepo": "me/new"})
        yield running


_READS = [
    ("GET", "/api/models/me/secret"),
    ("GET", "/api/models/me/secret/revision/main"),
    ("GET", "/api/models/me/secret/refs"),
    ("GET", "/api/models/me/secret/tree/main"),
    ("GET", "/api/models/me/secret/commits/main"),
    ("GET", "/me/secret/resolve/main/.gitattributes"),
    ("HEAD", "/me/secret/resolve/main/.gitattributes"),
    ("POST", "/api/models/me/secret/commit/main"),
    ("POST", "/api/models/me/secret/preupload/main"),
    ("GET", "/api/models/me/secret/xet-write-token/main"),
    ("POST", "/me/secret.git/info/lfs/objects/batch"),
    ("PUT", "/api/models/me/secret/settings"),
]


@pytest.mark.parametrize(("method", "path"), _READS)
def test_a_private_repo_is_as_if_it_were_not_there(server: HubServer, method: str, path: str) -> None:
    for token, status in [(None, 401), (OTHER, 404)]:
        there = ask(server.url, method, path, b"", token=token)
        absent = ask(server.url, method, path.replace("secret", "nothing"), b"", token=token)
        assert (there.status, there.headers["x-error-code"]) == (status, "RepoNotFound")
        assert (there.status, there.body) == (absent.status, absent.body)
        assert there.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/api/models/me/old", "/api/models/me/new"),
        ("/api/models/m%65/%6fld?a=%2F", "/api/models/me/new?a=%2F"),
        ("/api/models/ME/old/tree/main/me%2Fold", "/api/models/me/new/tree/main/me%2Fold"),
        ("/m%65/old/resolve/refs%2Fpr%2F1/me/old", "/me/new/resolve/refs%2Fpr%2F1/me/old"),
    ],
)
def test_the_address_of_a_moved_repo_leads_to_its_new_one(server: HubServer, path: str, location: str) -> None:
    answer = ask(server.url, "GET", path)
    assert (answer.status, answer.headers["location"]) == (307, location)
    batch = ask(server.url, "POST", "/me/ol%64.git/info/lfs/objects/batch", {"operation": "upload"})
    assert (batch.status, batch.headers["location"]) == (307, "/me/new.git/info/lfs/objects/batch")
    assert ask(server.url, "GET", path, token=OTHER).status == 404


def test_a_moved_repo_is_not_deleted_by_its_old_name(server: HubServer) -> None:
    assert ask(server.url, "DELETE", "/api/repos/delete", {"name": "old"}).status == 404
    assert ask(server.url, "GET", "/api/models/me/new").status == 200


def test_lists_show_only_what_one_may_read(server: HubServer) -> None:
    def ids(token: str | None) -> set[str]:
        return {row["id"] for row in ask(server.url, "GET", "/api/models", token=token).json()}

    assert ids(TOKEN) == {"me/secret", "me/open", "me/new"}
    assert ids(OTHER) == ids(None) == {"me/open"}


def test_lists_come_in_pages(server: HubServer) -> None:
    first = ask(server.url, "GET", "/api/models?limit=2")
    assert len(first.json()) == 2
    assert 'rel="next"' in first.headers["link"]
    second = ask(server.url, "GET", first.headers["link"].split(">")[0].removeprefix(f"<{server.url}"))
    assert {row["id"] for row in first.json() + second.json()} == {"me/secret", "me/open", "me/new"}
    assert "link" not in second.headers


def test_the_public_may_read_and_not_write(server: HubServer) -> None:
    assert ask(server.url, "GET", "/api/models/me/open", token=None).status == 200
    commit = ndjson(("file", {"path": "a", "content": "YQ==", "encoding": "base64"}))
    assert ask(server.url, "POST", "/api/models/me/open/commit/main", commit, token=None).status == 401
    assert ask(server.url, "POST", "/api/models/me/open/commit/main", commit, token=OTHER).status == 403
    assert ask(server.url, "POST", "/api/models/me/open/commit/main", commit, token=READER).status == 403
    assert ask(server.url, "GET", "/me/open/resolve/main/a", token=None).status == 404


def test_flags_of_a_json_body_are_true_or_false(server: HubServer) -> None:
    for expand, status in ((True, 200), (False, 200), (None, 200), ("false", 400)):
        body = {"paths": [".gitattributes"], "expand": expand}
        answer = ask(server.url, "POST", "/api/models/me/open/paths-info/main", body, Content_Type="application/json")
        assert answer.status == status
        assert status != 200 or ("lastCommit" in answer.json()[0]) is (expand is True)


def test_a_read_token_reads_private_and_writes_nothing(server: HubServer) -> None:
    assert ask(server.url, "GET", "/api/models/me/secret", token=READER).status == 200
    assert ask(server.url, "GET", "/api/models/me/secret/auth-check/write", token=READER).status == 403
    assert ask(server.url, "POST", "/api/repos/create", {"name": "mine"}, token=READER).status == 403
    gone = ask(server.url, "DELETE", "/api/repos/delete", {"name": "secret"}, token=READER)
    assert gone.status == 403
    assert ask(server.url, "GET", "/api/whoami-v2", token=READER).json()["auth"]["accessToken"]["role"] == "read"


def test_nobody_creates_in_another_namespace_or_moves_what_is_not_theirs(server: HubServer) -> None:
    body = {"name": "trap", "organization": "me"}
    assert ask(server.url, "POST", "/api/repos/create", body, token=OTHER).status == 403
    move = {"fromRepo": "me/open", "toRepo": "you/open", "type": "model"}
    assert ask(server.url, "POST", "/api/repos/move", move, token=OTHER).status == 403
    move = {"fromRepo": "me/secret", "toRepo": "you/secret", "type": "model"}
    assert ask(server.url, "POST", "/api/repos/move", move, token=OTHER).status == 404


@pytest.mark.parametrize("header", ["Bearer nonsense-token", "Bearer ", "Basic !!!", "Digest x", "", "Bearer ü"])
def test_a_wrong_token_is_401_everywhere_even_where_none_is_needed(server: HubServer, header: str) -> None:
    for path in ["/api/models/me/open", "/api/whoami-v2", "/me/open/resolve/main/.gitattributes"]:
        answer = ask(server.url, "GET", path, token=None, Authorization=header)
        assert answer.status == 401
        assert answer.headers["x-error-message"] == "Invalid credentials in Authorization header"


def test_git_style_credentials_work(server: HubServer) -> None:
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    assert ask(server.url, "GET", "/api/whoami-v2", token=None, Authorization=f"Basic {basic}").status == 200


def _link(server: HubServer, data: bytes, repo: str = "secret") -> tuple[str, str]:
    oid = hashlib.sha256(data).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    answer = ask(server.url, "POST", f"/me/{repo}.git/info/lfs/objects/batch", body).json()
    href = answer["objects"][0]["actions"]["upload"]["href"]
    return oid, href.removeprefix(server.url)


def test_an_upload_link_permits_its_object_and_nothing_else(server: HubServer) -> None:
    data = b"twelve bytes"
    oid, href = _link(server, data)
    stored = "/me/secret.git/info/lfs/objects/verify"
    path, _, signature = href.partition("?signature=")
    forged = signature[:-4] + "AAAA"
    assert ask(server.url, "PUT", f"{path}?signature={forged}", data, token=None).status == 403
    assert ask(server.url, "PUT", path, data, token=None).status == 403
    other = hashlib.sha256(b"x").hexdigest()
    assert ask(server.url, "PUT", href.replace(oid, other, 1), data, token=None).status == 403
    assert ask(server.url, "PUT", href, b"another12345", token=None).status == 400
    assert ask(server.url, "PUT", href, data + b"more", token=None).status == 400
    assert ask(server.url, "POST", stored, {"oid": oid, "size": len(data)}).status == 404
    assert ask(server.url, "PUT", href, data, token=None).status == 200
    assert ask(server.url, "POST", stored, {"oid": oid, "size": len(data)}).status == 200


def test_a_xet_token_is_not_a_login_and_an_upload_link_no_xet_token(server: HubServer) -> None:
    answer = ask(server.url, "GET", "/api/models/me/secret/xet-write-token/main").json()
    assert ask(server.url, "GET", "/api/models/me/secret", token=answer["accessToken"]).status == 401
    cas = answer["casUrl"].removeprefix(server.url)
    assert ask(server.url, "POST", f"{cas}/v1/shards", b"", token=TOKEN).status == 403
    assert ask(server.url, "POST", f"{cas}/v1/shards", b"", token=None).status == 401
    _, href = _link(server, b"whatever it is")
    assert ask(server.url, "POST", f"{cas}/v1/shards", b"", token=href.split("=")[1]).status == 403


def test_knowing_a_digest_is_not_having_the_file(server: HubServer) -> None:
    data = b"the weights nobody else may have"
    oid, href = _link(server, data)
    assert ask(server.url, "PUT", href, data, token=None).status == 200
    ask(server.url, "POST", "/api/repos/create", {"name": "thief"}, token=OTHER)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()
    attempts = [
        ("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": oid, "size": len(data)}),
        ("file", {"path": "w.bin", "content": base64.b64encode(pointer).decode(), "encoding": "base64"}),
    ]
    for attempt in attempts:
        answer = ask(server.url, "POST", "/api/models/you/thief/commit/main", ndjson(attempt), token=OTHER)
        assert (answer.status, "never uploaded" in answer.json()["error"]) == (400, True)
    batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    offered = ask(server.url, "POST", "/you/thief.git/info/lfs/objects/batch", batch, token=OTHER).json()
    assert "actions" in offered["objects"][0]  # as for any unknown object: not even its being here is told
    # whoever may read it may use it in another repository without sending it again
    mine = ask(server.url, "POST", "/api/models/me/open/commit/main", ndjson(attempts[0]))
    assert mine.status == 200
    assert ask(server.url, "GET", "/me/open/resolve/main/w.bin", token=None).body == data


def test_nothing_secret_is_stored_in_clear(server: HubServer, tmp_path: Path) -> None:
    folder = server._folder
    assert (folder / "hub.sqlite3").stat().st_mode & 0o077 == 0
    for path in folder.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
