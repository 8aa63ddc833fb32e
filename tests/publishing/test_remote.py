"""A token is in no message, no traceback and no log, whatever the client says about it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from perdure.errors import HubError, Rejected, Unauthorized, Unavailable
from perdure.publishing.remote import Remote
from publishing import Hub

TOKEN = "hf_tokenOfNobody1234567890"
NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize("token", [f"{TOKEN}\r\nX-Evil: 1", f"{TOKEN} x", f"{TOKEN}\x00", f"{TOKEN}é", f"x\t{TOKEN}"])
def test_a_token_with_odd_characters_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(Unauthorized, match="no token has") as caught:
        Remote(NOWHERE, token)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("token", [" ", "\n", "\r\n\t"])
def test_white_space_is_no_token(token: str) -> None:
    with pytest.raises(Unauthorized, match="There is no token"):
        Remote(NOWHERE, token)


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [(ValueError, Rejected), (KeyError, Rejected), (ConnectionError, Unavailable), (RuntimeError, Rejected)],
)
def test_a_client_that_repeats_the_token(
    monkeypatch: pytest.MonkeyPatch, raised: type[Exception], becomes: type[HubError]
) -> None:
    remote = Remote(NOWHERE, TOKEN)

    def complain() -> None:
        try:
            raise ValueError(f"Illegal header value b'Bearer {TOKEN}'")
        except ValueError as error:
            raise raised(f"sent {TOKEN}") from error

    monkeypatch.setattr(remote._api, "whoami", complain)
    with pytest.raises(becomes) as caught:
        remote.user()
    assert caught.value.__cause__ is None
    assert TOKEN not in str(caught.value) + "".join(traceback.format_exception(caught.value))


def test_white_space_around_a_token_is_no_part_of_it(hub: Hub, saved: Path) -> None:
    for repo, token in (("me/line-break", f"{hub.token}\n"), ("me/spaces", f" {hub.token}\r\n")):
        pushed = hub.push(saved, repo, "--token", token)
        assert pushed.code == 0 and hub.token not in pushed.messages, pushed.messages
