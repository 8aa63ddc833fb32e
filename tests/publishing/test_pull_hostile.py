"""Pulls from a server that says what it likes: nothing leaves the folder, nothing wrong gets into it."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pulling import contents, refusals

from perdure.errors import Rejected
from perdure.publishing.snapshot import check_paths
from publishing import Hub

CONTENT = b"x" * 1000


def entry(path: str, content: bytes = CONTENT, size: int | None = None) -> dict[str, Any]:
    size = len(content) if size is None else size
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return {"type": "file", "path": path, "size": size, "oid": blob}


# repository → its tree, what it is to end in, and what is said
CASES: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "up": ([entry("../x")], "rejected", "no path within a folder"),
    "absolute": ([entry("/etc/passwd")], "rejected", "no path within a folder"),
    "wrong": ([entry("a.json", b"other" * 200)], "corrupt", "sent something else"),
    "wrong-manifest": ([entry("perdure.json", b"other" * 200)], "corrupt", "perdure.json"),
    "more": ([entry("a.json", CONTENT, size=10)], "corrupt", "sent something else"),
    "less": ([entry("a.json", CONTENT, size=5000)], "unavailable", "Go on with it: perdure pull me/less"),
    "huge": ([entry("a.json", size=10**18)], "save-failed", "GB more"),
    "gated": ([], "unauthorized", "Ask for access on its page"),
    "busy": ([], "unavailable", "is kept"),
}


class Hostile(BaseHTTPRequestHandler):
    """Answers what a pull asks with the tree of the repository, and `CONTENT` for every file."""

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        name = parts[parts.index("me") + 1]
        if name == "gated":
            self._answer(403, b"{}", **{"X-Error-Code": "GatedRepo"})
        elif name == "busy":
            self._answer(503, b"{}", **{"Retry-After": "77"})
        elif "revision" in parts:
            self._answer(200, json.dumps({"id": f"me/{name}", "sha": "a" * 40}).encode())
        elif "tree" in parts:
            self._answer(200, json.dumps(CASES[name][0]).encode())
        else:
            self._answer(200, CONTENT)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for header, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_what_a_hostile_server_says(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "neighbour").write_text("mine")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        said = refusals(hub, tmp_path, [(f"me/{name}", url, None) for name in CASES])
        server.shutdown()
    for (name, (_, kind, words)), error in zip(CASES.items(), said, strict=True):
        assert error.get("kind") == kind and words in error["message"] + error["hint"], (name, error)
    assert said[-1]["retry_after"] == 77
    kept = {"neighbour", ".never.perdure-kept/kept"}
    assert set(contents(tmp_path)) - kept <= {".never.perdure-kept/new/a.json"}


@pytest.mark.parametrize(
    "paths",
    [
        ["../x"], ["a/../../x"], ["/etc/passwd"], ["C:/x"], ["c:x"], ["a\\..\\x"], ["a\0b"], [""], ["a//b"], ["a/."],
        ["a", "a/b"], ["A", "a/b"], ["README.md", "readme.MD"], ["caf\u00e9", "cafe\u0301"], ["\udcff"],
        ["\u00e9" * 200], [".git/hooks/post-checkout"], ["sub/.GIT/config"], [".perdure-x/journal.json"],
        [".perdure/outbox/outbox.db"],
    ],
)  # fmt: skip
def test_paths_that_are_not_for_a_folder(paths: list[str]) -> None:
    with pytest.raises(Rejected, match="Nothing was downloaded"):
        check_paths("me/x@main", paths)


def test_paths_of_models_are() -> None:
    check_paths(
        "me/x@main", [".gitattributes", "a.json", "a.json.md", "sub/a.json", "sub/deep/a", ".eval_results/x.yaml"]
    )
