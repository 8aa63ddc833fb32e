"""A repository that is deleted while requests about it are under way: they are told that there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hubs import ask

from perdure.hub import manage, pulls
from perdure.hub.server import HubServer


def _deleting_after(function: Callable[..., Any], url: str, name: str) -> Callable[..., Any]:
    """The function, and right after its first call the repository is gone."""
    pending = [name]

    def called(*args: Any) -> Any:
        result = function(*args)
        if pending:
            assert ask(url, "DELETE", "/api/repos/delete", {"name": pending.pop()}).status == 200
        return result

    return called


@pytest.mark.parametrize(
    ("module", "step", "method", "path", "body"),
    [
        (pulls, "find", "POST", "/api/models/me/{}/discussions/1/comment", {"comment": "late"}),
        (pulls, "_title", "POST", "/api/models/me/{}/discussions", {"title": "a question"}),
        (pulls, "_title", "POST", "/api/models/me/{}/discussions", {"title": "a draft", "pullRequest": True}),
        (manage, "_require_write", "DELETE", "/api/repos/delete", {"name": "{}"}),
    ],
)
def test_requests_under_way_are_told(  # noqa: PLR0917
    server: HubServer, monkeypatch: pytest.MonkeyPatch, module: Any, step: str, method: str, path: str, body: Any
) -> None:
    name = f"deleted-{step.strip('_').replace('_', '-')}"
    assert ask(server.url, "POST", "/api/repos/create", {"name": name}).status == 200
    assert ask(server.url, "POST", f"/api/models/me/{name}/discussions", {"title": "the first"}).status == 200
    monkeypatch.setattr(module, step, _deleting_after(getattr(module, step), server.url, name))
    sent = {key: value.format(name) if isinstance(value, str) else value for key, value in body.items()}
    answer = ask(server.url, method, path.format(name), sent)
    assert answer.status == 404, answer.body
