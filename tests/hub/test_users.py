"""`perdure hub user`, `token` and `org`, on the store of a running server: what they change counts at once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hubs import TOKEN, ask, ndjson

from perdure.cli.app import run
from perdure.hub.accounts import Accounts, token_digest
from perdure.hub.db import DATABASE, open_database
from perdure.hub.schema import MIGRATIONS
from perdure.hub.server import HubServer

Perdure = Callable[..., Result]


def perdure(*args: object, stdin: str = "") -> Result:
    """The command as from a shell, errors turned into exit codes."""
    import click

    @click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def whole(arguments: tuple[str, ...]) -> None:
        run(arguments)

    return CliRunner().invoke(whole, [str(arg) for arg in args], input=stdin)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub", user="me", token=TOKEN) as running:
        yield running


@pytest.fixture
def hub(server: HubServer) -> Callable[..., Any]:
    """`perdure hub …` on the server's store; its JSON, or the failed result."""

    def call(*args: object, stdin: str = "") -> Any:
        done = perdure("hub", *args, "--dir", server._folder, "--json", stdin=stdin)
        return json.loads(done.stdout) if done.exit_code == 0 else done

    return call


def _whoami(server: HubServer, token: str) -> Any:
    answer = ask(server.url, "GET", "/api/whoami-v2", token=token)
    return answer.json() if answer.status == 200 else answer.status


def test_a_user_is_let_in_and_out_while_the_server_runs(server: HubServer, hub: Callable[..., Any]) -> None:
    made = hub("user", "add", "ana")
    assert made["token"].startswith("hf_pdr_")
    assert _whoami(server, made["token"])["name"] == "ana"
    assert ask(server.url, "POST", "/api/repos/create", {"name": "model"}, token=made["token"]).status == 200
    removed = hub("user", "remove", "ANA")
    assert removed == {"removed": "ana", "tokens_revoked": 1, "repositories_left": 1}
    assert _whoami(server, made["token"]) == 401
    assert ask(server.url, "GET", "/api/models/ana/model").status == 200  # the administrator's to keep
    again = perdure("hub", "user", "add", "ana", "--dir", server._folder)
    assert "1 repositories in the namespace 'ana' are theirs now" in again.stderr


def test_ones_own_token_is_taken_from_standard_input_and_not_repeated(
    server: HubServer, hub: Callable[..., Any]
) -> None:
    made = hub("user", "add", "ben", "--token", "-", stdin="a-token-of-my-own\n")
    assert made["token"] is None
    assert _whoami(server, "a-token-of-my-own")["name"] == "ben"
    taken = hub("user", "add", "eve", "--token", "a-token-of-my-own")
    assert (taken.exit_code, "somebody else's" in taken.stderr) == (2, True)
    assert "a-token-of-my-own" not in taken.output
    short = hub("user", "add", "carl", "--token", "short")
    assert (short.exit_code, "8 to 512" in short.stderr) == (2, True)
    assert not {"carl", "eve"} & {user["user"] for user in hub("user", "list")}


def test_the_last_administrator_stays(server: HubServer, hub: Callable[..., Any]) -> None:
    refused = hub("user", "remove", "me")
    assert (refused.exit_code, "last administrator" in refused.stderr) == (2, True)
    assert f"perdure hub user add NAME --admin --dir {server._folder}" in refused.stderr
    assert "last administrator" in hub("user", "set", "me", "--no-admin").stderr
    boss = hub("user", "add", "boss", "--admin")
    assert hub("user", "remove", "me")["removed"] == "me"
    assert _whoami(server, TOKEN) == 401
    assert _whoami(server, boss["token"])["auth"]["accessToken"]["role"] == "admin"


def test_a_user_becomes_an_administrator_and_no_longer_one(server: HubServer, hub: Callable[..., Any]) -> None:
    hub("user", "add", "ana")
    refused = hub("token", "create", "ana", "--role", "admin").stderr
    assert f"perdure hub user set NAME --admin --dir {server._folder}" in refused
    assert hub("user", "set", "Ana", "--admin") == {"user": "ana", "admin": True}
    token = hub("token", "create", "ana", "--role", "admin")["token"]
    ask(server.url, "POST", "/api/repos/create", {"name": "secret"})
    assert ask(server.url, "GET", "/api/models/me/secret", token=token).status == 200
    assert hub("user", "set", "ana", "--no-admin") == {"user": "ana", "admin": False}
    assert ask(server.url, "GET", "/api/models/me/secret", token=token).status == 404
    assert _whoami(server, token)["auth"]["accessToken"]["role"] == "write"


def test_roles_bound_what_a_token_may_do(server: HubServer, hub: Callable[..., Any]) -> None:
    ask(server.url, "POST", "/api/repos/create", {"name": "secret"})
    hub("user", "add", "ana")
    write = hub("token", "create", "ana", "--label", "laptop")
    read = hub("token", "create", "ana", "--role", "read")
    assert ask(server.url, "POST", "/api/repos/create", {"name": "a"}, token=write["token"]).status == 200
    assert ask(server.url, "POST", "/api/repos/create", {"name": "b"}, token=read["token"]).status == 403
    assert ask(server.url, "GET", "/api/models/ana/a", token=read["token"]).status == 200
    assert ask(server.url, "GET", "/api/models/me/secret", token=write["token"]).status == 404
    assert hub("token", "create", "ana", "--role", "admin").exit_code == 2
    # an administrator's other tokens do no more than anybody's
    ask(server.url, "POST", "/api/repos/create", {"name": "c"}, token=write["token"])
    modest = hub("token", "create", "me")
    assert ask(server.url, "GET", "/api/models/ana/c", token=modest["token"]).status == 404
    assert ask(server.url, "GET", "/api/models/ana/c").status == 200


def test_tokens_are_listed_by_id_and_revoked_one_by_one(server: HubServer, hub: Callable[..., Any]) -> None:
    hub("user", "add", "ana")
    made = hub("token", "create", "ana", "--label", "node 7")
    listed = hub("token", "list", "ana")
    assert [token["label"] for token in listed] == ["first token", "node 7"]
    assert made["token"] not in json.dumps(hub("token", "list"))
    assert hub("token", "revoke", made["id"]) == {"revoked": made["id"], "user": "ana"}
    assert _whoami(server, made["token"]) == 401
    assert hub("token", "revoke", made["id"]).exit_code == 2
    table = perdure("hub", "token", "list", "--dir", server._folder).stdout
    assert "first token" in table
    assert "node 7" not in table


def test_a_token_ends_when_it_says(server: HubServer, hub: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    hub("user", "add", "ana")
    tomorrow = (datetime.now(tz=timezone.utc) + timedelta(days=1)).strftime("%Y-%m-%d")
    for span in ("12h", "1d", tomorrow):
        made = hub("token", "create", "ana", "--expires", span)
        assert _whoami(server, made["token"])["name"] == "ana"
        assert 0 < made["expires"] - datetime.now(tz=timezone.utc).timestamp() <= 86_400
    db = open_database(server._folder)
    Accounts(db).add_token(Accounts(db).require_user("ana"), "expired-token", role="write", label="", expires=1.0)
    db.close()
    assert _whoami(server, "expired-token") == 401
    for wrong in ("soon", "0d", "2001-01-01", "2027-13-01"):
        assert hub("token", "create", "ana", "--expires", wrong).exit_code == 2


def test_members_share_an_organisations_namespace(server: HubServer, hub: Callable[..., Any]) -> None:
    ana, ben = (hub("user", "add", name)["token"] for name in ("ana", "ben"))
    create = {"name": "model", "organization": "lab"}
    assert ask(server.url, "POST", "/api/repos/create", create, token=ana).status == 403
    assert hub("org", "create", "lab") == {"org": "lab", "members": {}}
    hub("org", "add", "lab", "ana")
    assert hub("org", "add", "Lab", "ben", "--role", "read") == {
        "org": "lab",
        "members": {"ana": "write", "ben": "read"},
    }
    assert ask(server.url, "POST", "/api/repos/create", create, token=ana).status == 200
    assert _whoami(server, ben)["orgs"][0]["name"] == "lab"
    commit = ndjson(("file", {"path": "a", "content": "YQ==", "encoding": "base64"}))
    assert ask(server.url, "GET", "/api/models/lab/model", token=ben).status == 200
    assert ask(server.url, "POST", "/api/models/lab/model/commit/main", commit, token=ben).status == 403
    assert ask(server.url, "POST", "/api/models/lab/model/commit/main", commit, token=ana).status == 200
    assert hub("org", "remove", "lab", "ben")["members"] == {"ana": "write"}
    assert ask(server.url, "GET", "/api/models/lab/model", token=ben).status == 404
    assert hub("org", "remove", "lab", "ben").exit_code == 2
    assert hub("org", "list") == [{"org": "lab", "members": {"ana": "write"}}]
    assert hub("org", "delete", "lab") == {"removed": "lab", "repositories_left": 1}
    assert ask(server.url, "GET", "/api/models/lab/model", token=ana).status == 404
    assert ask(server.url, "GET", "/api/models/lab/model").status == 200


def test_names_are_of_one_user_or_one_organisation(server: HubServer, hub: Callable[..., Any]) -> None:
    hub("org", "create", "lab")
    for args in (("user", "add", "LAB"), ("org", "create", "Me"), ("user", "add", "me"), ("org", "create", "lab")):
        refused = hub(*args).stderr
        assert "exists already" in refused
        assert ("capital and small letters" in refused) == (args[2] in {"LAB", "Me"})
    for name in ("datasets", "cas-x", "openapi.json", "a/b", "..", ""):
        assert hub("user", "add", name).exit_code == 2
        assert hub("org", "create", name).exit_code == 2
    for args in (("user", "remove", "nobody"), ("token", "create", "nobody"), ("org", "add", "none", "me")):
        missing = hub(*args)
        assert missing.exit_code == 2
        assert f"list --dir {server._folder}" in missing.stderr


def test_a_wrong_call_is_told_in_json_where_that_is_asked_for(hub: Callable[..., Any]) -> None:
    done = hub("token", "create", "me", "--role", "king")
    assert (done.exit_code, json.loads(done.stdout)["error"]["kind"]) == (2, "invalid-input")
    assert "king" in json.loads(done.stdout)["error"]["message"]
    assert "Usage:" in done.stderr


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    result = perdure("hub", "user", "add", "ana", "--dir", tmp_path)
    assert (result.exit_code, "is no hub's folder" in result.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_it_works_while_the_server_is_down_and_tokens_are_digests(tmp_path: Path) -> None:
    with HubServer(tmp_path / "hub", user="me", token=TOKEN):
        pass
    made = json.loads(perdure("hub", "user", "add", "ana", "--dir", tmp_path / "hub", "--json").stdout)
    for path in (tmp_path / "hub").rglob("*"):
        assert path.is_dir() or made["token"].encode() not in path.read_bytes()
    with HubServer(tmp_path / "hub") as server:
        assert _whoami(server, made["token"])["name"] == "ana"


def test_an_administrator_of_an_earlier_store_still_is_one(tmp_path: Path) -> None:
    with HubServer(tmp_path / "hub", user="me", token=TOKEN):
        pass
    path = tmp_path / "hub" / DATABASE
    path.unlink()
    with sqlite3.connect(path) as old:
        old.executescript(MIGRATIONS[0])
        old.execute("PRAGMA user_version = 1")
        old.execute("INSERT INTO users VALUES (1, 'me', 1, 0.0)")
        old.execute("INSERT INTO tokens VALUES (?, 1, 'write', 'perdure serve', 0.0)", (token_digest(TOKEN),))
    old.close()
    with HubServer(tmp_path / "hub") as server:
        assert _whoami(server, TOKEN)["auth"]["accessToken"]["role"] == "admin"


@pytest.mark.parametrize(
    ("gated", "anonymous", "stranger"), [("auto", 401, 200), ("manual", 401, 403), (False, 200, 200)]
)
def test_gated_files_are_for_those_it_says(
    server: HubServer, hub: Callable[..., Any], gated: object, anonymous: int, stranger: int
) -> None:
    ben = hub("user", "add", "ben")["token"]
    ask(server.url, "POST", "/api/repos/create", {"name": "open", "private": False})
    answer = ask(server.url, "PUT", "/api/models/me/open/settings", {"gated": gated})
    assert answer.json() == {"private": False, "gated": gated}
    for path in (
        "/me/open/resolve/main/.gitattributes",
        "/me/open/raw/main/.gitattributes",
        "/me/open/blob/main/.gitattributes",
        "/me/open/info/refs?service=git-upload-pack",
        "/api/models/me/open/auth-check",
    ):
        for token, status in ((None, anonymous), (ben, stranger), (TOKEN, 200)):
            answer = ask(server.url, "GET", path, token=token)
            assert answer.status == status, path
            assert answer.headers.get("x-error-code") == (None if status == 200 else "GatedRepo")
    assert ask(server.url, "GET", "/api/models/me/open", token=None).json()["gated"] == gated
    assert ask(server.url, "PUT", "/api/models/me/open/settings", {"gated": "sometimes"}).status == 400


_COMMANDS = [
    "user add",
    "user list",
    "user set",
    "user remove",
    "token create",
    "token list",
    "token revoke",
    "org create",
]
_COMMANDS += ["org add", "org remove", "org list", "org delete"]


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    said = perdure("hub", *command.split(), "--help").stdout
    assert f"perdure hub {command}" in said
    assert "--json" in said


def test_a_store_that_is_locked_is_said_and_nothing_is_changed(
    server: HubServer, hub: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0.05))
    holder = sqlite3.connect(server._folder / DATABASE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        busy = hub("user", "add", "ana")
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert busy.exit_code != 0
    assert "database is locked" in busy.stderr
    assert [user["user"] for user in hub("user", "list")] == ["me"]


def test_the_whole_of_a_token_decides_and_not_its_id(tmp_path: Path) -> None:
    digest = token_digest(TOKEN)
    with HubServer(tmp_path, user="me", token=TOKEN) as hub:
        assert ask(hub.url, "GET", "/api/whoami-v2").status == 200
        db = open_database(tmp_path)
        with db.write() as rows:
            rows.execute("UPDATE tokens SET digest = ?", (digest[:-1] + bytes([digest[-1] ^ 1]),))
        db.close()
        assert ask(hub.url, "GET", "/api/whoami-v2").status == 401
