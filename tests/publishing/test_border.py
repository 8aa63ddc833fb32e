"""A Hub, or what stands before it, that says what it likes: waits end, and the token stays at home."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from perdure.errors import HubError, Rejected, Unauthorized, Unavailable
from perdure.publishing.bounds import Bounds, bounded
from perdure.publishing.remote import Remote

TOKEN = "hf_tokenOfMe1234567890"
Answer = Callable[["Server"], None]


class Server(BaseHTTPRequestHandler):
    """Answers as it is told to, and remembers with what token it was asked."""

    answer: Answer
    asked: list[tuple[str | None, str]]

    def do_GET(self) -> None:
        self.asked.append((self.headers["Authorization"], self.headers["Host"]))
        with suppress(OSError):
            type(self).answer(self)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def say(self, body: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for header, value in {"Content-Type": kind, "Connection": "close", **headers}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Remote]]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    Server.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()

        def ask(answer: Answer) -> Remote:
            Server.answer = answer
            return Remote(f"http://127.0.0.1:{server.server_port}", TOKEN)

        yield ask
        server.shutdown()


def test_the_token_goes_to_its_own_hub_only(ask: Callable[[Answer], Remote]) -> None:
    def on(server: Server) -> None:
        elsewhere = f"http://localhost:{server.server.server_address[1]}/steal"
        server.say(b"[]", Link=f'<{elsewhere}>; rel="next"' if server.path != "/steal" else "")

    assert list(ask(on).commits("me/x", "main")) == []
    (token, _), (stolen, host) = Server.asked
    assert token == f"Bearer {TOKEN}" and host.startswith("localhost") and stolen is None


def test_the_token_is_told_in_no_spelling_and_nothing_acts_upon_the_terminal(
    ask: Callable[[Answer], Remote],
) -> None:
    def echo(server: Server, user: str) -> None:
        if "whoami" in server.path:
            return server.say(json.dumps({"name": user}).encode())
        said = f"no \x1b]0;x\x07\r\nperdure: fine {server.headers['Authorization']}"
        return server.say(json.dumps({"error": said}).encode(), 403)

    for user in ("m", "me", "you"):  # the name before it shifts how the token is spelled
        with pytest.raises(Unauthorized) as refused:
            ask(lambda server, user=user: echo(server, user)).move_branch("me/x", "main", request=b"", old="a" * 40)
        credentials = (Server.asked[-1][0] or "").removeprefix("Basic ")
        shown = "".join(traceback.format_exception(refused.value))
        assert credentials[8:16] not in shown and credentials[-12:-4] not in shown
        assert "no ]0;x perdure: fine Basic" in refused.value.message


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda server: server.say(b"<html>log in</html>", kind="text/html"), Unavailable),
        (lambda server: server.say(b"<html>404</html>", 404, "text/html; charset=utf-8"), Unavailable),
        (lambda server: server.say(b"{}"), Rejected),
        (lambda server: server.say(b"[1]"), Rejected),
        (lambda server: server.say(b"[]"), Rejected),
    ],
)
def test_answers_that_no_hub_gives(ask: Callable[[Answer], Remote], answer: Answer, error: type[HubError]) -> None:
    with pytest.raises(error):
        ask(answer).look("me/x")
    with pytest.raises(error):
        ask(answer).committed_at("me/x", "main")


def test_an_answer_without_end_and_one_byte_after_the_other(
    ask: Callable[[Answer], Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_on(server: Server, *, block: bytes, seconds: float) -> None:
        server.say(b'{"name": "')
        for _ in range(200):
            server.wfile.write(block)
            server.wfile.flush()
            time.sleep(seconds)

    defaults = Bounds.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "nbytes", 2**20)
    with pytest.raises(Unavailable, match="larger than any"):
        ask(lambda server: go_on(server, block=b"x" * 2**16, seconds=0)).user()
    monkeypatch.setitem(defaults, "answer", 0.3)
    with pytest.raises(Unavailable, match="did not end in time"):
        ask(lambda server: go_on(server, block=b"x", seconds=0.05)).user()
    with bounded(Bounds(total=-1), lambda request: None), ThreadPoolExecutor(1) as other:  # is no matter of another's
        assert other.submit(ask(lambda server: server.say(b'{"name": "me"}')).user).result() == "me"
