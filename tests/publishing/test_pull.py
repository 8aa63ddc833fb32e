"""Pulls from a real hub over real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pulling import contents, is_whole, leftovers, refusals
from pulling import pull as pull_by_command

from perdure import AlreadyExists, Corrupt, NotFound, publish, pull
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


@pytest.fixture(autouse=True)
def online(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub on this machine is the only one that can be reached."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name, value in {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))


def test_what_was_pushed_comes_back_whole_and_only_once(tmp_path: Path) -> None:
    saved, out = save_folder(tmp_path / "saved", CHECKPOINT, kind="checkpoint"), tmp_path / "deep" / "out"
    commit = publish(saved, "me/pulled", training_state=True, tag="v1").commit
    first = pull("me/pulled@v1", out)
    assert contents(out) == contents(saved) and is_whole(out) and leftovers(out) == []
    assert (first.commit, first.changed, first.bytes_received) == (commit, True, first.nbytes)
    for again in (pull(f"hf://me/pulled@{commit}", out), pull("pulled", out, revision="main")):
        assert (again.repo, again.changed, again.bytes_received) == ("me/pulled", False, 0)

    (out / "model.safetensors").write_bytes(b"damaged")  # only that is downloaded again
    assert pull("me/pulled", out).bytes_received == len(CHECKPOINT["model.safetensors"])
    assert contents(out) == contents(saved)

    publish(saved, "me/pulled")  # without its training state, which is then no part of the revision any more
    pull("me/pulled", out)
    assert is_whole(out)
    assert set(contents(saved)) - set(contents(out)) == {"training_state/rng.json", "trainer_state.json"}


def test_the_command(hub: Hub, saved: Path, tmp_path: Path) -> None:
    publish(saved, "me/by-command")
    out = tmp_path / "pulled"
    done = pull_by_command(hub, "me/by-command", out)
    assert done.code == 0 and done.document["path"] == str(out) and done.document["changed"] is True
    assert done.messages == "", "no bar where there is no terminal"
    told = f"{out} is me/by-command@main (commit {done.document['commit'][:12]}) already, whole: nothing was downloaded"
    assert hub.text("pull", "me/by-command", str(out)).splitlines() == [told, str(out)]
    (mine := tmp_path / "mine").mkdir()
    (mine / "thesis.tex").write_text("years of work")
    refused = pull_by_command(hub, "me/by-command", mine)
    assert refused.code == 2 and refused.error["kind"] == "already-exists" and "mv" in refused.error["hint"]
    assert contents(mine) == {"thesis.tex": b"years of work"}


def test_a_card_edited_on_the_hub_and_one_edited_here(hub: Hub, saved: Path, tmp_path: Path) -> None:
    save_folder(saved, {"model.safetensors": weights(), "config.json": b"{}", "README.md": b"# First\n"})
    publish(saved, "me/card-edited")
    out = tmp_path / "pulled"
    pull("me/card-edited", out)
    (out / "notes.txt").write_text("my own")
    hub.commit_file("me/card-edited", "README.md", b"# Edited there\n")
    assert pull("me/card-edited", out).bytes_received == len(b"# Edited there\n")
    assert (out / "README.md").read_bytes() == b"# Edited there\n" and (out / "notes.txt").read_text() == "my own"
    assert pull("me/card-edited", out).changed is False

    (out / "README.md").write_text("# Edited here\n")
    hub.commit_file("me/card-edited", "README.md", b"# Edited there again\n")
    with pytest.raises(AlreadyExists, match="was edited since") as refused:
        pull("me/card-edited", out)
    assert "README.md.mine" in refused.value.hint and (out / "README.md").read_text() == "# Edited here\n"


def test_a_model_that_perdure_never_saved(tmp_path: Path) -> None:
    (foreign := tmp_path / "foreign").mkdir()
    (foreign / "model.safetensors").write_bytes(weights())
    (foreign / "config.json").write_bytes(b"{}")
    publish(foreign, "me/foreign")
    out = tmp_path / "out"
    pull("me/foreign", out)
    assert is_whole(out) and (out / "model.safetensors").read_bytes() == weights()
    assert pull("me/foreign", out).changed is False


def test_a_revision_without_a_model_replaces_none(hub: Hub, saved: Path, tmp_path: Path) -> None:
    hub.ask("/api/repos/create", {"type": "model", "name": "bare", "private": True})
    publish(saved, "me/bare", revision="main-step-000000001")
    before = contents(saved)
    for folder in (saved, tmp_path / "new"):
        with pytest.raises(NotFound, match=r"me/bare@main .*holds no model") as refused:
            pull("me/bare", folder)
        assert "main-step-000000001" in refused.value.hint
    assert contents(saved) == before and not (tmp_path / "new").exists()


def test_a_revision_changed_by_other_means_is_not_taken_for_what_was_saved(
    hub: Hub, saved: Path, tmp_path: Path
) -> None:
    publish(saved, "me/changed")
    hub.commit_file("me/changed", "tokenizer.json", b"[]")
    out = tmp_path / "pulled"
    with pytest.raises(Corrupt, match=r"tokenizer\.json") as refused:
        pull("me/changed", out)
    assert "--no-verify" in refused.value.hint and not out.exists()
    assert pull("me/changed", out, verify=False).bytes_received == 0, "it was kept from before"
    assert (out / "tokenizer.json").read_bytes() == b"[]" and not is_whole(out)


def test_what_cannot_be_had(hub: Hub, saved: Path, tmp_path: Path) -> None:
    publish(saved, "me/refusing")
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
