"""Pushes to hubs that are away, answer with errors, say nothing, or are killed half way."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from perdure.hub.server import HubServer
from publishing import Hub, clean_environment, push, save_folder, weights


def test_offline_mode_is_a_hub_that_is_away(saved: Path) -> None:
    away = push(saved, "me/x", HF_TOKEN="hf_someToken", HF_HUB_OFFLINE="1")
    assert away.error["kind"] == "unavailable" and "unset HF_HUB_OFFLINE" in away.error["hint"]


@pytest.mark.parametrize(("status", "kind"), [(503, "unavailable"), (429, "unavailable"), (418, "rejected")])
def test_a_hub_that_answers_with_an_error(saved: Path, status: int, kind: str) -> None:
    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Message", "no, thank you")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Broken) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        refused = push(saved, "me/x", "--endpoint", f"http://127.0.0.1:{server.server_port}", HF_TOKEN="hf_someToken")
        server.shutdown()
    assert refused.error["kind"] == kind and "no, thank you" in refused.error["message"]


def test_a_hub_that_accepts_and_says_nothing(saved: Path) -> None:
    impatient = f"""
import sys
from perdure.errors import Unavailable
from perdure.publishing import bounds, remote
from perdure.publishing.publish import publish

bounds.Bounds.__init__.__kwdefaults__.update(answer=0.3, total=0.5)
for call in (lambda hub: publish({str(saved)!r}, "me/x", endpoint=hub.endpoint, token="hf_someToken"),
             lambda hub: hub.tree("me/x", "main")):  # the client would repeat this one for minutes
    try:
        call(remote.Remote(sys.argv[1], "hf_someToken"))
    except Unavailable as error:
        print("out of reach" in error.message)
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run([sys.executable, "-c", impatient, address], env=clean_environment(), timeout=60,
                              capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout == "True\nTrue\n", done.stderr


def test_a_hub_killed_in_the_middle_of_an_upload(saved: Path, tmp_path: Path) -> None:
    save_folder(saved, {"model.safetensors": weights(size=2**18), "config.json": b"{}"})  # 64 MiB
    store, token = tmp_path / "store", "hf_tokenOfMe1234567890"
    environment = {"HF_TOKEN": token, "HF_HOME": str(tmp_path / "home"), "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1"}
    serve = (
        "import sys, threading; from perdure.hub.server import HubServer\n"
        f"with HubServer(sys.argv[1], user='me', token={token!r}) as hub: print(hub.url, flush=True); "
        "threading.Event().wait(120)"
    )
    with subprocess.Popen([sys.executable, "-c", serve, str(store)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        Thread(target=kill_when_larger, args=(server, store, 2**20), daemon=True).start()
        cut = push(saved, "me/cut", "--endpoint", url, **environment)
    assert cut.code == 3 and cut.error["kind"] == "unavailable" and "perdure push" in cut.error["hint"]

    with HubServer(store, user="me", token=token) as again:
        assert push(saved, "me/cut", "--endpoint", again.url, **environment).code == 0
        whole = Hub(again.url, token, tmp_path / "home")
        assert whole.read("me/cut", "model.safetensors") == (saved / "model.safetensors").read_bytes()
        assert len(whole.commits("me/cut")) == 2


def kill_when_larger(server: subprocess.Popen[str], store: Path, size: int) -> None:
    """SIGKILL the server once its store has grown by the first bytes of an upload."""
    while server.poll() is None and folder_size(store) < size:
        time.sleep(0.005)
    server.kill()


def folder_size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that have just gone
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(parent) / name).stat().st_size
    return total
