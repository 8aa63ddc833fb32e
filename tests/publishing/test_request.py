"""A command that is printed is the call that was made: parsed by the command line and compared, field by field."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.cli import promote, pull, push
from perdure.errors import InvalidInput
from perdure.format.hub_id import HUB
from perdure.publishing.request import PromoteRequest, PushRequest
from perdure.publishing.source import Source
from perdure.publishing.target import Target

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
commits = st.none() | st.just("") | st.just("0a" * 20)
targets = st.builds(
    Target,
    repo=st.sampled_from(["model", "me/model"]),
    revision=st.sampled_from(["main", "step-200", "feature/a"]),
    path_in_repo=st.sampled_from(["", "last-checkpoint"]),
    tag=st.none() | st.just("v1.0"),
    endpoint=st.sampled_from([HUB, "http://localhost:8000"]),
)


def parsed(command: str, cli: click.Command) -> dict[str, Any]:
    """What the command line makes of a command: parameter → value."""
    program, name, *words = shlex.split(command)
    assert program == "perdure" and name in ("push", "promote", "pull")
    return cli.make_context(name, words).params


@given(
    folder=st.builds(Path, st.just("/runs"), st.sampled_from(["a", "my runs", "it's", "$HOME"])),
    request=st.builds(
        PushRequest, target=targets, private=st.none() | st.booleans(), message=st.none() | texts,
        training_state=st.booleans(), allow=st.lists(texts, max_size=3).map(tuple), expected_head=commits,
    ),
)  # fmt: skip
def test_a_push(folder: Path, request: PushRequest) -> None:
    said, target = parsed(request.command(folder), push.command), request.target
    assert (said["folder"], said["repo"], said["revision"]) == (folder, target.repo, target.revision)
    assert (said["tag"], said["endpoint"] or HUB) == (target.tag, target.endpoint)
    assert said["path_in_repo"] == target.path_in_repo
    own = {field.name for field in fields(PushRequest)} - {"target", "start"}  # the command line begins no branch
    assert {name: said[name] for name in own} == {name: getattr(request, name) for name in own}
    assert not said["dry_run"] and said["token"] is None


@given(
    request=st.builds(
        PromoteRequest, target=targets, revision=st.sampled_from(["step-200", "feature/a", "0a" * 20]),
        force=st.booleans(), training_state=st.booleans(), message=st.none() | texts, expected_head=commits,
    ),
)  # fmt: skip
def test_a_promotion(request: PromoteRequest) -> None:
    said, target = parsed(request.command, promote.command), request.target
    assert (said["revision"], said["to"]) == (f"{target.repo}@{request.revision}", target.revision)
    assert (said["tag"], said["endpoint"] or HUB) == (target.tag, target.endpoint)
    own = {field.name for field in fields(PromoteRequest)} - {"target", "revision"}
    assert {name: said[name] for name in own} == {name: getattr(request, name) for name in own}
    assert not said["dry_run"] and said["token"] is None


@given(
    folder=st.sampled_from([Path("out"), Path("/my runs/it's")]),
    source=st.builds(
        Source, repo=st.sampled_from(["model", "me/model"]), revision=st.sampled_from(["main", "v1.0", "feature/a"]),
        path_in_repo=st.sampled_from(["", "last-checkpoint", "a/b"]), endpoint=st.sampled_from([HUB, "http://h:8000"]),
    ),
    verify=st.booleans(),
)  # fmt: skip
def test_a_pull(folder: Path, source: Source, verify: bool) -> None:
    said = parsed(source.pull_command(folder, verify=verify), pull.command)
    asked = Source.of(said["repo"], path_in_repo=said["path_in_repo"], endpoint=said["endpoint"] or HUB)
    assert (asked, said["folder"], said["verify"]) == (source, folder, verify) and said["token"] is None


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="neither None nor 'first'"):
        PushRequest(target=Target(repo="me/x"), start="second")
    with pytest.raises(InvalidInput, match="not the whole id of a commit"):
        PushRequest(target=Target(repo="me/x"), expected_head="0a1b2c3")
