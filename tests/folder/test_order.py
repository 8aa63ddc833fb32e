"""The order of syncs and renames: a kill does not prove an fsync, since the page cache outlives the process.

Every system call that matters is recorded; what a power cut could leave after each one is then judged.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import ONE_FILE, OTHERS, SHARDS, put, save

from perdure.folder import amend, commit
from perdure.io import durable

Event = tuple[str, Path, Path | None]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """(what, path, other path) of every fsync, rename and exchange from now on, in order."""
    events: list[Event] = []
    fsync, rename, exchange = os.fsync, os.rename, durable.exchange

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        events.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink(), None))

    def watched_rename(source: str | Path, target: str | Path) -> None:
        rename(source, target)
        events.append(("rename", Path(source), Path(target)))

    def watched_exchange(one: Path, other: Path) -> bool:
        swapped = exchange(one, other)
        events.append(("exchange", one, other))
        return swapped

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    monkeypatch.setattr(Path, "rename", watched_rename)
    monkeypatch.setattr(commit, "exchange", watched_exchange)
    return events


def at(events: list[Event], matches: Callable[[Event], bool]) -> int:
    return next((number for number, event in enumerate(events) if matches(event)), len(events))


def synced(events: list[Event]) -> set[Path]:
    return {path for what, path, _ in events if what == "fsync"}


@pytest.mark.parametrize("first", [True, False], ids=["new", "over-another"])
def test_nothing_is_put_in_place_that_is_not_durable(tmp_path: Path, record: list[Event], first: bool) -> None:
    out = tmp_path / "out"
    if not first:
        save(out, ONE_FILE)
        record.clear()
    save(out, SHARDS)
    placed = at(record, lambda event: event[0] in ("rename", "exchange") and event[2] == out)
    new = record[placed][1]
    before = synced(record[:placed])
    assert {new / name for name in [*SHARDS, "perdure.json"]} <= before
    assert {new, new / "additional_chat_templates"} <= before
    assert out.parent in synced(record[placed:]), "the name itself must last"


def test_the_manifest_is_the_last_file_to_be_synced(tmp_path: Path, record: list[Event]) -> None:
    save(tmp_path / "out", SHARDS)
    files = [path.name for what, path, _ in record if what == "fsync" and path.suffix]
    assert [name for name in files if name in {*SHARDS, "perdure.json"}][-1] == "perdure.json"


@pytest.mark.parametrize("action", ["save", "amend"])
def test_files_are_replaced_only_under_a_durable_journal(tmp_path: Path, record: list[Event], action: str) -> None:
    out = tmp_path / "out"
    put(out, OTHERS)
    save(out, {**ONE_FILE, "README.md": b"old"})
    record.clear()
    if action == "save":
        save(out, SHARDS)
        coming = [*SHARDS, "perdure.json"]
    else:
        amend(out, {"README.md": b"new"})
        coming = ["README.md", "perdure.json"]

    journal = at(record, lambda event: event[0] == "rename" and event[1].name == "journal.json.part")
    staging = record[journal][1].parent
    named = at(record[journal:], lambda event: event[:2] == ("fsync", staging)) + journal
    moved = at(
        record,
        lambda event: (
            event[0] == "rename"
            and staging in event[1].parents
            and event[2] is not None
            and staging not in event[2].parents
        ),
    )
    left = at(
        record,
        lambda event: (
            event[0] == "rename"
            and event[1].parent == out
            and event[1] != staging
            and not event[1].name.startswith(".")
        ),
    )
    assert journal < named < min(moved, left)
    assert record[journal][1] in synced(record[:journal]), "the journal's bytes come before its name"
    names_before = {path.name for path in synced(record[:journal])}
    assert set(map(os.path.basename, coming)) <= names_before, "all that comes is durable before anything leaves"
    placed = [event[2] for event in record[moved:] if event[0] == "rename" and event[2] is not None]
    assert [path.name for path in placed if path.parent == out][-1] == "perdure.json"
    last = max(number for number, event in enumerate(record) if event[0] == "rename")
    assert out in synced(record[last:]), "the names must last before what was replaced is removed"
