"""A card on a Hub loads the model from where it lies: its revision, and main once it was promoted."""

from __future__ import annotations

import json
from pathlib import Path

from perdure import Facts
from perdure.card.card import Card
from perdure.card.facts import Weights
from perdure.io.digest import as_text, digest_bytes
from perdure.publishing.address import FILES, with_address
from publishing import Hub, save_folder, weights


def files(revision: str | None = None) -> dict[str, bytes]:
    told = Facts(
        name="tiny, step 60", revision=revision, repo="me/other" if revision else None,
        weights=Weights(kind="model", architecture="LlamaForCausalLM", pipeline_tag="text-generation"),
    )  # fmt: skip
    return {"model.safetensors": weights(), "config.json": b"{}", **Card.from_facts(told).files()}


def test_a_card_says_where_it_was_pushed_and_promoted(hub: Hub, tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "out", files())
    for changed in (True, False):
        done = hub.push(folder, "me/placed", "--revision", "main-step-60")
        assert done.code == 0 and done.document["changed"] is changed
    card = _whole_card(hub, "main-step-60")
    assert 'model="me/placed", revision="main-step-60")' in card and "Run this in the folder" not in card
    before = hub.commits("me/placed")[0]
    promoted = hub.text("promote", "me/placed@main-step-60", "--tag", "v1")
    assert f"To go back: perdure promote me/placed@{before}" in promoted
    assert hub.cli("promote", "me/placed@main-step-60").document["changed"] is False
    assert "None has metrics. To measure one: perdure evaluate" in hub.text("revisions", "me/placed")
    assert 'model="me/placed")' in _whole_card(hub, "main") and "revision=" not in _whole_card(hub, "v1")


def _whole_card(hub: Hub, revision: str) -> str:
    """The card of a revision, whose manifest names it and its facts as they are there."""
    named = json.loads(hub.read("me/placed", "perdure.json", revision))["files"]
    for path in ("README.md", "card_facts.json"):
        assert named[path]["digest"] == as_text(digest_bytes(hub.read("me/placed", path, revision)))
    return hub.read("me/placed", "README.md", revision).decode()


def test_what_somebody_else_wrote_stays(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "out", files("try-1"))
    known = {path: (folder / path).read_bytes() for path in FILES}
    moved = with_address(known, "me/new", "main")["README.md"].decode()
    assert 'model="me/new")' in moved and "me/other" not in moved
    mine = known["README.md"].replace(b'revision="try-1"', b'revision="mine"')
    assert with_address({**known, "README.md": mine}, "me/new", "main")["README.md"] == mine
    assert with_address({**known, "card_facts.json": b"{}"}, "me/new", "main") == {}
