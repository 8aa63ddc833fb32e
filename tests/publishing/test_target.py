"""Names are judged before anything touches the network."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.errors import InvalidInput
from perdure.publishing.target import Target, endpoint_in_force


@pytest.mark.parametrize("repo", ["me/model", "model", "Me_2/my.model-7B", "a", "a/b", "n" * 96])
def test_good_names(repo: str) -> None:
    assert Target(repo=repo).repo == repo


@pytest.mark.parametrize(
    "repo",
    ["", "/", "me/", "/model", "a/b/c", "datasets/me/x", "me/-x", "me/x.", ".me/x", "me/a--b", "me/a..b", "me/x.git",
     "me/my model", "me/x\n", "me/../x", "https://huggingface.co/me/x", "n" * 97, "m" * 60 + "/" + "n" * 60, "mé/x",
     None, 5],
)  # fmt: skip
def test_bad_names(repo: Any) -> None:
    with pytest.raises(InvalidInput, match="not the name of a repository") as caught:
        Target(repo=repo)
    assert "NAMESPACE/NAME" in caught.value.hint


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "a b",
        "-a",
        "a..b",
        "a/",
        "a//b",
        "a.lock",
        "a@{1}",
        "a.",
        "refs/pr/1",
        "0" * 40,
        "x~1",
        "HEAD",
        "perdure-staging-1a2b",
        "@",
        "v" * 241,
        "v/" + "x" * 241,
        1,
    ],
)
def test_bad_branches_and_tags(ref: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be the branch"):
        Target(repo="me/x", revision=ref)
    with pytest.raises(InvalidInput, match="cannot be the tag"):
        Target(repo="me/x", tag=ref)


@pytest.mark.parametrize("ref", ["main", "v1.0", "run-step-000000200", "feature/a", "v1.0+cu12", "v" * 240])
def test_good_branches_and_tags(ref: str) -> None:
    assert Target(repo="me/x", revision=ref, tag=ref).tag == ref


@pytest.mark.parametrize("endpoint", ["", "huggingface.co", "ftp://x", "http://", "http://h:99999", "http://h/?a=b"])
def test_bad_endpoints(endpoint: str) -> None:
    with pytest.raises(InvalidInput, match="not the address of a Hub"):
        Target(repo="me/x", endpoint=endpoint)


def test_an_endpoint_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput) as caught:
        Target(repo="me/x", endpoint="https://me:secret@hub.example")
    assert "secret" not in str(caught.value)


def test_the_endpoint_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example/")
    assert endpoint_in_force(None) == "http://hub.example"
    assert endpoint_in_force("http://localhost:8000") == "http://localhost:8000"
    monkeypatch.delenv("HF_ENDPOINT")
    assert endpoint_in_force(None) == "https://huggingface.co"
