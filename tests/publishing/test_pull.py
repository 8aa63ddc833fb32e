"""Pulls from a real hub over real sockets, each in a process of its own."""

from __future__ import annotations

from pathlib import Path

from pulling import contents, is_whole, leftovers, pull, refusals

from publishing import GUEST, Hub, save_folder, weights

CHECKPOINT = {
    "model.safetensors": weights(),
    "config.json": b'{"model_type": "llama"}',
    "additional_chat_templates/tools.jinja": b"{{ messages }}",
    "README.md": b"# Mine\n",
    "empty.txt": b"",
    "training_state/rng.json": b"{}",
    "trainer_state.json": b"{}",
}


def test_what_was_pushed_comes_back_whole_and_only_once(hub: Hub, tmp_path: Path) -> None:
    saved, out = save_folder(tmp_path / "saved", CHECKPOINT, kind="checkpoint"), tmp_path / "deep" / "out"
    commit = hub.push(saved, "me/pulled", "--training-state", "--tag", "v1").document["commit"]
    out.parent.mkdir()

    first = pull(hub, "me/pulled@v1", out)
    assert first.code == 0, first.messages
    assert contents(out) == contents(saved) and is_whole(out) and leftovers(out) == []
    assert first.document["commit"] == commit and first.document["bytes_received"] == first.document["nbytes"]
    again = pull(hub, f"hf://me/pulled@{commit}", out)
    assert (again.document["changed"], again.document["bytes_received"]) == (False, 0)

    (out / "model.safetensors").write_bytes(b"damaged")  # only that is downloaded again
    healed = pull(hub, "me/pulled", out).document
    assert healed["bytes_received"] == len(CHECKPOINT["model.safetensors"]) and contents(out) == contents(saved)

    hub.push(saved, "me/pulled")  # now without its training state, which is no part of the revision any more
    assert pull(hub, "me/pulled", out).code == 0
    assert is_whole(out) and set(contents(saved)) - set(contents(out)) == {
        "training_state/rng.json",
        "trainer_state.json",
    }


def test_a_card_edited_on_the_hub_and_one_edited_here(hub: Hub, saved: Path, tmp_path: Path) -> None:
    save_folder(saved, {"model.safetensors": weights(), "config.json": b"{}", "README.md": b"# First\n"})
    hub.push(saved, "me/card")
    out = tmp_path / "pulled"
    assert pull(hub, "me/card", out).code == 0
    (out / "notes.txt").write_text("my own")
    hub.commit_file("me/card", "README.md", b"# Edited there\n")
    edited = pull(hub, "me/card", out)
    assert edited.document["bytes_received"] == len(b"# Edited there\n")
    assert (out / "README.md").read_bytes() == b"# Edited there\n" and (out / "notes.txt").read_text() == "my own"
    assert pull(hub, "me/card", out).document["changed"] is False

    (out / "README.md").write_text("# Edited here\n")
    hub.commit_file("me/card", "README.md", b"# Edited there again\n")
    refused = pull(hub, "me/card", out)
    assert refused.error["kind"] == "already-exists" and "README.md.mine" in refused.error["hint"]
    assert (out / "README.md").read_text() == "# Edited here\n"


def test_a_model_that_perdure_never_saved(hub: Hub, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model.safetensors").write_bytes(weights())
    (foreign / "config.json").write_bytes(b"{}")
    hub.push(foreign, "me/foreign", "--public")
    out = tmp_path / "out"
    anonymous = pull(hub, "me/foreign", out, HF_TOKEN="")
    assert anonymous.code == 0, anonymous.messages
    assert is_whole(out) and (out / "model.safetensors").read_bytes() == weights()
    assert pull(hub, "me/foreign", out).document["changed"] is False


def test_a_revision_changed_by_other_means_is_not_taken_for_what_was_saved(
    hub: Hub, saved: Path, tmp_path: Path
) -> None:
    hub.push(saved, "me/changed")
    hub.commit_file("me/changed", "tokenizer.json", b"[]")
    out = tmp_path / "pulled"
    refused = pull(hub, "me/changed", out)
    assert refused.error["kind"] == "corrupt" and "tokenizer.json" in refused.error["message"] and not out.exists()
    taken = pull(hub, "me/changed", out, "--no-verify")
    assert taken.document["bytes_received"] == 0, "it was kept from before"
    assert (out / "tokenizer.json").read_bytes() == b"[]" and not is_whole(out)


def test_what_cannot_be_had(hub: Hub, saved: Path, tmp_path: Path) -> None:
    hub.push(saved, "me/refusing")
    expected: list[tuple[str, str | None, str, str]] = [
        ("me/nowhere", hub.token, "not-found", "me/nowhere"),
        ("me/refusing@v9", hub.token, "not-found", "There are: main"),
        ("me/refusing", GUEST, "not-found", "If it is private"),
        ("me/refusing", None, "not-found", "everybody"),
        ("me/refusing", "hf_wrongToken0000", "unauthorized", "token"),
        ("me/refusing@a b", hub.token, "invalid-input", "branch, tag or commit"),
        ("../etc", hub.token, "invalid-input", "not the name of a repository"),
    ]
    said = refusals(hub, tmp_path, [(repo, hub.url, token) for repo, token, _, _ in expected])
    for (repo, token, kind, words), error in zip(expected, said, strict=True):
        assert error["kind"] == kind and words in error["message"] + error["hint"], repo
        assert token is None or token not in str(error)
    assert leftovers(tmp_path / "never") == []


def test_a_folder_that_is_not_perdures_stays(hub: Hub, tmp_path: Path) -> None:
    (mine := tmp_path / "mine").mkdir()
    (mine / "thesis.tex").write_text("years of work")
    refused = pull(hub, "me/any", mine)
    assert refused.error["kind"] == "already-exists" and "mv" in refused.error["hint"]
    assert contents(mine) == {"thesis.tex": b"years of work"}
