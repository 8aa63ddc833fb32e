"""The hub is killed while repositories are changed in every way: what was acknowledged holds after it.

So are the commands that change who may use it, before each statement of their transactions: all is done, or nothing.

`PERDURE_HUB_KILLS=30 pytest tests/hub/test_crash_in_changes.py` kills it more often.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from hubs import TOKEN, Answer, ask, look_after, ndjson, serving, wait_until

from perdure.hub.accounts import Accounts, token_digest, token_id
from perdure.hub.db import open_database
from perdure.hub.server import HubServer

_KILLS = int(os.environ.get("PERDURE_HUB_KILLS", "2"))
_API = "/api/models/me"


def _done(answer: Answer) -> Answer:
    if answer.status != 200:
        raise ConnectionError(answer.body)
    return answer


def _merge(url: str, name: str) -> None:
    _done(ask(url, "POST", f"{_API}/{name}/discussions", {"title": "a change", "pullRequest": True}))
    change = ndjson(("file", {"path": "a.txt", "content": name}))
    _done(ask(url, "POST", f"{_API}/{name}/commit/refs%2Fpr%2F1", change))
    _done(ask(url, "POST", f"{_API}/{name}/discussions/1/merge", {}))


def _merged(url: str, name: str) -> bool:
    status = ask(url, "GET", f"{_API}/{name}/discussions/1").json()["status"]
    return (status, ask(url, "GET", f"/me/{name}/resolve/main/a.txt").body) == ("merged", name.encode())


def _move(url: str, name: str) -> None:
    _done(ask(url, "POST", "/api/repos/move", {"fromRepo": f"me/{name}", "toRepo": f"me/{name}-new", "type": "model"}))


def _moved(url: str, name: str) -> bool:
    known = ask(url, "GET", f"{_API}/{name}-new").json()["id"] == f"me/{name}-new"
    return known and ask(url, "GET", f"{_API}/{name}").status == 307


def _delete(url: str, name: str) -> None:
    _done(ask(url, "DELETE", "/api/repos/delete", {"name": name}))


def _deleted(url: str, name: str) -> bool:
    return ask(url, "GET", f"{_API}/{name}").status == 404


def _open(url: str, name: str) -> None:
    _done(ask(url, "PUT", f"{_API}/{name}/settings", {"private": False, "gated": "manual"}))


def _opened(url: str, name: str) -> bool:
    facts = ask(url, "GET", f"{_API}/{name}").json()
    return (facts["private"], facts["gated"]) == (False, "manual")


def _branch(url: str, name: str) -> None:
    _done(ask(url, "POST", f"{_API}/{name}/branch/dev%2Fone", {}))
    _done(ask(url, "POST", f"{_API}/{name}/branch/gone", {}))
    _done(ask(url, "DELETE", f"{_API}/{name}/branch/gone"))


def _branched(url: str, name: str) -> bool:
    refs = ask(url, "GET", f"{_API}/{name}/refs").json()
    return [ref["name"] for ref in refs["branches"]] == ["dev/one", "main"]


def _tag(url: str, name: str) -> None:
    _done(ask(url, "POST", f"{_API}/{name}/tag/main", {"tag": "v1", "message": "annotated"}))
    _done(ask(url, "POST", f"{_API}/{name}/tag/main", {"tag": "v2"}))
    _done(ask(url, "DELETE", f"{_API}/{name}/tag/v2"))


def _tagged(url: str, name: str) -> bool:
    refs = ask(url, "GET", f"{_API}/{name}/refs").json()
    return [(ref["name"], ref["targetCommit"]) for ref in refs["tags"]] == [("v1", refs["branches"][0]["targetCommit"])]


def _squash(url: str, name: str) -> None:
    _done(ask(url, "POST", f"{_API}/{name}/commit/main", ndjson(("file", {"path": "a.txt", "content": name}))))
    _done(ask(url, "POST", f"{_API}/{name}/super-squash/main", {"message": "one"}))


def _squashed(url: str, name: str) -> bool:
    titles = [commit["title"] for commit in ask(url, "GET", f"{_API}/{name}/commits/main").json()]
    return (titles, ask(url, "GET", f"/me/{name}/resolve/main/a.txt").body) == (["one"], name.encode())


def _talk(url: str, name: str) -> None:
    _done(ask(url, "POST", f"{_API}/{name}/discussions", {"title": "a question", "description": "why?"}))
    _done(ask(url, "POST", f"{_API}/{name}/discussions/1/comment", {"comment": "because"}))
    _done(ask(url, "POST", f"{_API}/{name}/discussions/1/status", {"status": "closed"}))


def _talked(url: str, name: str) -> bool:
    talk = ask(url, "GET", f"{_API}/{name}/discussions/1").json()
    return (talk["status"], [event["type"] for event in talk["events"]]) == (
        "closed", ["comment", "comment", "status-change"],
    )  # fmt: skip


def _lock(url: str, name: str) -> None:
    for path in ("kept.bin", "given-back.bin"):
        made = ask(url, "POST", f"/me/{name}.git/info/lfs/locks", {"path": path})
        if made.status != 201:
            raise ConnectionError(made.body)
    _done(ask(url, "POST", f"/me/{name}.git/info/lfs/locks/{made.json()['lock']['id']}/unlock", {}))


def _locked(url: str, name: str) -> bool:
    return [lock["path"] for lock in ask(url, "GET", f"/me/{name}.git/info/lfs/locks").json()["locks"]] == ["kept.bin"]


_CHANGES: dict[str, tuple[Callable[[str, str], None], Callable[[str, str], bool]]] = {
    "merge": (_merge, _merged), "move": (_move, _moved), "delete": (_delete, _deleted), "open": (_open, _opened),
    "branch": (_branch, _branched), "tag": (_tag, _tagged), "squash": (_squash, _squashed), "talk": (_talk, _talked),
    "lock": (_lock, _locked),
}  # fmt: skip


def _work(url: str, change: str, label: str, acknowledged: list[tuple[str, str]]) -> None:
    """Make repositories and change each, until the hub is gone."""
    for i in range(1000):
        name = f"{change}-{label}-{i}"
        try:
            _done(ask(url, "POST", "/api/repos/create", {"name": name}))
            _CHANGES[change][0](url, name)
        except (OSError, HTTPException):  # also in the middle of an answer
            return
        acknowledged.append((change, name))


def _wait_for_each_change(acknowledged: list[tuple[str, str]]) -> None:
    wait_until(lambda: {change for change, _ in acknowledged} == {*_CHANGES}, 60)


@pytest.mark.timeout(120 + 60 * _KILLS)
def test_changes_that_were_acknowledged_survive_a_kill(tmp_path: Path) -> None:
    every: list[tuple[str, str]] = []
    for kill in range(_KILLS):
        acknowledged: list[tuple[str, str]] = []
        with serving(tmp_path / "hub", "--user", "me") as (process, url):
            threads = [
                threading.Thread(target=_work, args=(url, change, str(kill), acknowledged), daemon=True)
                for change in _CHANGES
            ]
            for thread in threads:
                thread.start()
            try:
                _wait_for_each_change(acknowledged)
            finally:
                process.kill()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
        every += acknowledged
    with serving(tmp_path / "hub") as (_, url):
        lost = [name for change, name in every if not _CHANGES[change][1](url, name)]
        assert not lost
    look_after("fsck", tmp_path / "hub")


_KILLED_AT = """
import os, signal, sys
from perdure.hub import sqlite_file
from perdure.cli.app import run

connect, left, begun = sqlite_file._connect, int(sys.argv[1]), False

def counted(uri):
    def trace(statement):
        global left, begun
        begun = begun or statement.startswith("BEGIN")
        left -= begun
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    connection = connect(uri)
    connection.set_trace_callback(trace)
    return connection

sqlite_file._connect = counted
run(sys.argv[2:])
"""


def _accounts(store: Path) -> dict[str, list[tuple[str, str]]]:
    db = open_database(store)
    try:
        accounts = Accounts(db)
        assert db.problems() == []
        return {user.name: [(token.id, token.role) for token in accounts.tokens(user)] for user in accounts.users()}
    finally:
        db.close()


@pytest.mark.parametrize(
    "command",
    ["user add ben --token token-of-ben-for-this", "user remove ana", "token create ana --token another-of-ana",
     f"token revoke {token_id(token_digest('token-of-ana-for-this'))}"],
    ids=lambda command: "-".join(command.split()[:2]),
)  # fmt: skip
def test_accounts_are_changed_whole_or_not_at_all(tmp_path: Path, command: str) -> None:
    sound = tmp_path / "sound"
    with HubServer(sound, user="me", token=TOKEN) as hub:
        assert hub._hub is not None
        Accounts(hub._hub.db).add_user_with_token("ana", "token-of-ana-for-this", admin=False, label="test")
    before, seen = _accounts(sound), []
    for kill_at in range(1, 30):
        store = Path(shutil.copytree(sound, tmp_path / str(kill_at)))
        arguments = [str(kill_at), "hub", *command.split(), "--dir", str(store)]
        ended = subprocess.run(
            [sys.executable, "-c", _KILLED_AT, *arguments], capture_output=True, timeout=60, check=False
        )
        seen.append(_accounts(store))
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    after = seen[-1]
    assert ended.returncode == 0 and after != before and len(seen) > 2
    assert all(state in (before, after) for state in seen)
