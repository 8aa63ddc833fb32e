"""`perdure outbox`, as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perdure import Outbox
from publishing import Hub, save_folder

AWAY = "http://127.0.0.1:9"


def perdure(*words: object, **environment: str) -> tuple[int, str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "perdure", "outbox", *map(str, words)],
        env={**clean, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": "hf_token1234567890", **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def box(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "run")


def test_an_empty_outbox_is_no_error(tmp_path: Path) -> None:
    for words in ([tmp_path], ["list", tmp_path], ["drain", tmp_path]):
        code, out, messages = perdure(*words)
        assert (code, out) == (0, "") and "Nothing waits" in messages


def test_a_job_is_listed_drained_in_vain_retried_and_cancelled(hub: Hub, box: Outbox, saved: Path) -> None:
    job = box.add(saved, "me/away", endpoint=AWAY, step=20)
    code, out, messages = perdure(box.run)
    assert code == 0 and out.splitlines()[1].split()[:3] == [job.id[:8], "queued", "0"]
    assert "me/away@main" in out and " 20 " in out and "are held" in messages

    for _ in range(15):  # a machine that is busy may not come to a try in so short a time
        code, out, _ = perdure("drain", box.run, "--timeout", 3, "--json")
        (document,) = json.loads(out)
        assert code == 3 and document["state"] == "queued"
        if document["error"]:
            break
    assert document["tries"] >= 1
    assert "out of reach" in document["error"] and document["next_try"] is not None
    assert AWAY in perdure(box.run)[2]  # the error, on standard error

    assert "is queued" in perdure("retry", job.id[:8], box.run)[2]
    assert perdure("cancel", job.id[:8], box.run)[:1] == (0,)
    assert perdure("list", box.run, "--json")[1].count('"cancelled"') == 1
    assert perdure("cancel", "zz", box.run)[0] == 2


def test_what_is_refused_for_good_says_why_and_what_to_type(hub: Hub, box: Outbox, saved: Path) -> None:
    refused = box.add(saved, "me/refused", endpoint=hub.url)
    code, out, messages = perdure("drain", box.run, HF_TOKEN="hf_wrong1234567890")
    assert code == 1 and "failed" in out
    assert "does not accept this token" in messages and f"outbox retry {refused.id[:8]} {box.run}" in messages
    assert "hf_wrong" not in messages

    assert perdure("retry", "all", box.run)[1].startswith(f"Queued {refused.id[:8]}")
    save_folder(saved, {"model.safetensors": b"", "config.json": b"{}"})
    code, out, _ = perdure("drain", box.run, HF_TOKEN=hub.token)
    assert code == 0 and "done" in out
    assert hub.files("me/refused") == {"model.safetensors", "config.json", "tokenizer.json", "perdure.json"}
