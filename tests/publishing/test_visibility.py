"""Who may read what was pushed: private by default, and public only for who said so."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from publishing import GUEST, Hub, model_files, save_folder


def test_visibility(hub: Hub, saved: Path) -> None:
    assert hub.push(saved, "me/open", "--public").document["private"] is False
    assert hub.ask("/api/models/me/open")["private"] is False
    assert hub.push(saved, "me/open").document["private"] is False  # not asked for: stays as it is
    refused = hub.push(saved, "me/open", "--private")
    assert refused.error["kind"] == "rejected" and "public" in refused.error["message"]
    hub.push(saved, "me/closed")
    assert hub.push(saved, "me/closed").document["private"] is True  # not asked for: stays as it is
    planned = hub.text("push", str(saved), "me/closed", "--public", "--tag", "v1", "--dry-run")
    assert "would be made public" in planned and "The tag v1 would be at the commit" in planned
    assert hub.ask("/api/models/me/closed")["private"] is True
    opened = hub.text("push", str(saved), "me/closed", "--public", "--tag", "v1", "--revision", "v1-branch")
    assert "me/closed was private, and is now public" in opened and "The branch v1-branch is new" in opened
    assert hub.ask("/api/models/me/closed")["private"] is False


def test_a_refused_push_makes_nothing_public(hub: Hub, saved: Path) -> None:
    hub.push(saved, "me/kept", "--tag", "v1")
    save_folder(saved, {**model_files(saved), "config.json": b'{"new": 1}'})
    assert hub.push(saved, "me/kept", "--public", "--tag", "v1").error["kind"] == "conflict"
    assert hub.push(saved, "me/kept", "--public", HF_TOKEN=GUEST).error["kind"] == "unauthorized"
    assert hub.ask("/api/models/me/kept")["private"] is True


def test_nobody_who_pushes_in_the_background_makes_a_repository_public(hub: Hub, saved: Path) -> None:
    hub.push(saved, "me/background")
    hub.run(f"""
from pathlib import Path
from perdure.publishing.publish import publish_to
from perdure.publishing.request import PushRequest
from perdure.publishing.target import Target
request = PushRequest(target=Target(repo="me/background", endpoint={hub.url!r}), private=False)
assert publish_to(request, Path({str(saved)!r})).private
""")
    assert hub.ask("/api/models/me/background")["private"] is True


def test_on_a_terminal_public_asks_first(hub: Hub, saved: Path) -> None:
    hub.push(saved, "me/asked")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"n\n")
        answered = subprocess.run(
            [sys.executable, "-m", "perdure", "push", str(saved), "me/asked", "--public"],
            stdin=theirs, env=hub.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert (
        answered.returncode == 1
        and "Nothing was sent" in answered.stderr
        and "Everybody will be able to read me/asked" in answered.stderr
    )
    assert hub.ask("/api/models/me/asked")["private"] is True
