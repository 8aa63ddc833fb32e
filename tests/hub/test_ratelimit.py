"""An optional limit of requests: counted per caller, said in the headers the client waits by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hubs import TOKEN, Client, ask

from perdure.hub import ratelimit
from perdure.hub.http import ApiError
from perdure.hub.ratelimit import RateLimiter
from perdure.hub.server import HubServer


class Clock:
    """Time that passes when it is told to, so that no window ends in the middle of a test."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub"), user="me", token=TOKEN, rate_limit=20) as running:
        assert running._hub is not None and running._hub.limiter is not None
        running._hub.limiter._clock = CLOCK
        yield running


def test_one_too_many_is_told_when_to_come_back(server: HubServer, tmp_path: Path) -> None:
    CLOCK.now = 610.0
    left = [int(ask(server.url, "GET", "/api/models").headers["ratelimit"].split("r=")[1].split(";")[0]) for _ in "123"]
    assert left == [19, 18, 17]
    for _ in range(17):
        assert ask(server.url, "GET", "/api/models").status == 200
    refused = ask(server.url, "GET", "/api/models")
    assert refused.status == 429
    assert refused.headers["retry-after"] == "290"
    assert refused.headers["ratelimit-policy"] == '"fixed window";"api";q=20;w=300'
    told = Client(server.url, TOKEN, tmp_path / "home").fail("api.repo_info('me/model')")
    assert "you have reached your 'api' rate limit" in told
    assert "(0/20 requests remaining" in told
    # others, and other kinds of requests, have allowances of their own
    assert ask(server.url, "GET", "/me/model/resolve/main/a").status == 404
    assert ask(server.url, "GET", "/api/models", token=None).status == 200
    # whoever waits as long as they were told may go on
    CLOCK.now = 899.9
    assert ask(server.url, "GET", "/api/models").status == 429
    CLOCK.now = 610.0 + 290
    assert ask(server.url, "GET", "/api/models").headers["ratelimit"] == '"api";r=19;t=300'


def test_wrong_tokens_count_for_where_they_come_from(server: HubServer) -> None:
    CLOCK.now = 1200.0
    statuses = [ask(server.url, "GET", "/api/whoami-v2", token=f"guess-number-{i}").status for i in range(22)]
    assert statuses == [401] * 20 + [429] * 2


def test_windows_end_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "_MOST_CALLERS", 3)
    now = 0.0
    limiter = RateLimiter(2, clock=lambda: now)
    for i in range(10):
        limiter.count(f"address {i}", "/api/models")
    assert len(limiter._used) == 4
    with pytest.raises(ApiError):
        limiter.count("address 9", "/api/models").require()
    limiter.count("address 0", "/api/models").require()
    with pytest.raises(ApiError):
        limiter.count("address 0", "/api/models").require()
    now = 299.5
    assert limiter.count("address 0", "/api/models").headers["RateLimit"] == '"api";r=0;t=1'
    now = 300.0
    assert limiter.count("address 0", "/api/models").headers["RateLimit"] == '"api";r=1;t=300'
