"""A dry run tells what a push would do, and changes nothing; branches that begin where they are told to."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from publishing import Hub, save_folder, weights


def test_a_plan_of_a_new_repository_creates_nothing(hub: Hub, saved: Path) -> None:
    plan = hub.push(saved, "planned", "--dry-run").document
    assert plan["repo"] == "me/planned" and plan["creates"] and plan["creates_branch"] and plan["private"]
    assert plan["base"] is None and plan["change"] == plan["delete"] == plan["keep"] == {}
    assert plan["add"] == {path.name: path.stat().st_size for path in saved.iterdir()}
    with pytest.raises(urllib.error.HTTPError):
        hub.ask("/api/models/me/planned")


def test_a_plan_says_what_the_push_then_does(hub: Hub, saved: Path) -> None:
    hub.push(saved, "me/plan")
    save_folder(saved, {"model-00001-of-00001.safetensors": weights(1), "config.json": b'{"new": 1}',
                        "tokenizer.json": b"{}"})  # fmt: skip
    before = hub.commits("me/plan")
    plan = hub.push(saved, "me/plan", "--dry-run", "--revision", "dev").document
    assert plan["creates_branch"] and not plan["creates"] and plan["base"] == before[0]
    assert set(plan["add"]) == {"model-00001-of-00001.safetensors"} and set(plan["keep"]) == {"tokenizer.json"}
    assert set(plan["change"]) == {"config.json", "perdure.json"} and plan["change"]["config.json"] == 10
    assert plan["delete"] == {"model.safetensors": len(weights())}
    assert hub.commits("me/plan") == before
    assert [ref["name"] for ref in hub.ask("/api/models/me/plan/refs")["branches"]] == ["main"]

    shown = subprocess.run(
        [sys.executable, "-m", "perdure", "push", str(saved), "me/plan", "--dry-run"],
        env=hub.environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "-   131.5 kB  model.safetensors\n" in shown and "~       10 B  config.json\n" in shown
    assert "1 added, 2 changed, 1 deleted, 1 kept" in shown and "Nothing was sent." in shown

    done = hub.push(saved, "me/plan").document
    assert done["files"] == sorted([*plan["add"], *plan["change"]]) and done["deleted"] == list(plan["delete"])
    again = hub.push(saved, "me/plan", "--dry-run").document
    assert not again["add"] and not again["change"] and not again["delete"] and len(again["keep"]) == 4


def test_a_plan_refuses_what_the_push_would_refuse(hub: Hub, saved: Path) -> None:
    hub.push(saved, "me/plan-refused", "--tag", "v1")
    save_folder(saved, {"model.safetensors": weights(1)})
    assert hub.push(saved, "me/plan-refused", "--tag", "v1", "--dry-run").error["kind"] == "conflict"


def test_a_branch_from_the_first_commit_has_nothing_of_main(hub: Hub, saved: Path) -> None:
    hub.push(saved, "me/first")
    checkpoint = save_folder(
        saved.parent / "checkpoint-20", {"model.safetensors": weights(1), "training_state/rng.json": b"{}"}
    )
    hub.run(f"""
from pathlib import Path
from perdure.publishing.publish import publish_to
from perdure.publishing.request import PushRequest
from perdure.publishing.target import Target
for name, state in (("without", False), ("with", True)):
    target = Target(repo="me/first", revision=name, endpoint={hub.url!r})
    publish_to(PushRequest(target=target, start="first", training_state=state), Path({str(checkpoint)!r}))
""")
    assert hub.files("me/first", "without") == {"model.safetensors", "perdure.json"}
    assert hub.files("me/first", "with") == {"model.safetensors", "perdure.json", "training_state/rng.json"}
    assert hub.commits("me/first", "with")[1:] == hub.commits("me/first")[-1:]
