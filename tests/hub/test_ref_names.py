"""Refs are files: names that cannot be beside each other, and what a killed server leaves of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from gits import Git, needs_git
from hubs import ask

from perdure.hub.server import HubServer


@pytest.fixture(scope="module", autouse=True)
def repo(server: HubServer) -> str:
    assert ask(server.url, "POST", "/api/repos/create", {"name": "refs"}).status == 200
    return "me/refs"


def _branches(server: HubServer) -> set[str]:
    return {ref["name"] for ref in ask(server.url, "GET", "/api/models/me/refs/refs").json()["branches"]}


@needs_git
@pytest.mark.parametrize("second", ["p1/q", "x" * 251])
def test_an_atomic_push_of_names_that_cannot_be_moves_nothing(
    server: HubServer, tmp_path: Path, repo: str, second: str
) -> None:
    git = Git(server.url, tmp_path / "git")
    git.clone(repo)
    before = _branches(server)
    said = git.fail("push", "--atomic", "origin", "HEAD:refs/heads/p1", f"HEAD:refs/heads/{second}", at="clone")
    assert "atomic" in said and _branches(server) == before


@needs_git
def test_an_atomic_push_may_make_a_folder_of_a_branch(server: HubServer, tmp_path: Path, repo: str) -> None:
    git = Git(server.url, tmp_path / "git")
    git.clone(repo)
    assert ask(server.url, "POST", "/api/models/me/refs/branch/f", {}).status == 200
    git.run("push", "-q", "--atomic", "origin", "HEAD:refs/heads/f/g", ":refs/heads/f", at="clone")
    assert _branches(server) == {"main", "f/g"}


def test_a_folder_that_a_killed_server_left_is_in_no_branchs_way(server: HubServer) -> None:
    (folder,) = (server._folder / "repos").rglob("refs/heads")
    (folder / "k/l").mkdir(parents=True)
    (folder / "k/l/m.lock").touch()
    assert ask(server.url, "POST", "/api/models/me/refs/branch/k", {}).status == 200
    assert "k" in _branches(server)
