"""What `perdure outbox` says to words that are wrong, to a shell that completes them, and of what failed."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from perdure import Outbox
from perdure.cli.app import cli
from perdure.errors import Unavailable
from perdure.integrations.push import Pushed, settle

AWAY = "http://127.0.0.1:9"


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["outbox", *map(str, words)], prog_name="perdure")


def offered(*words: str) -> list[str]:
    return [item.value for item in ShellComplete(cli, {}, "perdure", "_C").get_completions(list(words), "")]


def test_a_wrong_word_is_no_success(tmp_path: Path) -> None:
    for words in (["bogus"], ["drain", tmp_path / "no"], ["retry", "all", tmp_path / "no"]):
        assert run(*words).exit_code == 2
    assert "Did you mean drain?" in run("drian", tmp_path).stderr
    assert f"No push in the outbox of {tmp_path} has failed" in run("retry", "all", tmp_path).stderr
    assert "Did you mean push?" in CliRunner().invoke(cli, ["psh"]).stderr


def test_all_that_failed_go_over_nobody_and_one_that_is_named_does(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Outbox(tmp_path / "run")
    job = box.add(saved, "me/all", endpoint=AWAY, start="first").id
    box._store.failed(job, "Another run pushed to it.")
    monkeypatch.chdir(box.run)
    assert {"drain", "retry", "cancel"} <= set(offered("outbox")) and offered("outbox", "retry") == [job[:8]]

    queued = run("retry", "all", "--json")
    assert json.loads(queued.stdout)[0]["id"] == job and f"perdure outbox drain {box.run}" in queued.stderr
    claim = box._store.claim()
    assert claim is not None and claim.expected_head is not None
    box._store.failed(job, "Another run pushed to it.")
    assert run("retry", job[:8]).exit_code == 0
    claim = box._store.claim()
    assert claim is not None and claim.expected_head is None


def test_a_new_try_does_not_tell_the_error_of_the_one_before(
    tmp_path: Path, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = Outbox(tmp_path / "run").add(saved, "me/old", endpoint=AWAY).id
    box = Outbox(tmp_path / "run")
    box._store.claim()
    box._store.again(job, Unavailable("Out of reach."), 0.0)
    again = Outbox(tmp_path / "run")
    again._store.claim()
    with caplog.at_level(logging.INFO, "perdure"):
        again._report()
        assert not caplog.records
        again._store.again(job, Unavailable("Out of reach."), 0.0)
        again._report()
    assert "Out of reach." in caplog.text


def test_what_went_wrong_after_a_push_is_told_at_the_end(tmp_path: Path, saved: Path) -> None:
    box = Outbox(tmp_path / "run")
    box._store.done(box.add(saved, "me/after", endpoint=AWAY).id, "`evaluate` ended with 1.")
    told = settle(box, box.run, wait=None, is_drained=True, pushed=Pushed())
    assert told == f"Pushes after which something went wrong: 1. What, says: perdure outbox {box.run}"
