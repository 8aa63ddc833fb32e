"""The hub is killed while repositories are merged, moved, deleted and opened: what was acknowledged holds after it.

`PERDURE_HUB_KILLS=30 pytest tests/hub/test_crash_in_changes.py` kills it more often.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from hubs import Answer, ask, ndjson, serving, wait_until

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


_CHANGES: dict[str, tuple[Callable[[str, str], None], Callable[[str, str], bool]]] = {
    "merge": (_merge, _merged), "move": (_move, _moved), "delete": (_delete, _deleted), "open": (_open, _opened),
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
    checked = subprocess.run(
        [sys.executable, "-m", "perdure", "hub", "fsck", "--dir", str(tmp_path / "hub"), "--json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, json.loads(checked.stdout)
