"""Pushes to the embedded hub over a real socket, by the real client in a process of its own."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from perdure.card.card import Card
from perdure.card.facts import Facts
from perdure.card.training import Training
from perdure.errors import Corrupt
from perdure.publishing.publish import publish
from publishing import GUEST, READER, Hub, model_files, push, save_folder, weights

XET = {"xet": {}, "lfs": {"HF_HUB_DISABLE_XET": "1"}}


@pytest.mark.parametrize("mode", XET)
def test_first_push_second_push_no_push(hub: Hub, saved: Path, mode: str) -> None:
    repo, environment = f"me/road-{mode}", XET[mode]

    first = hub.push(saved, repo, "--tag", "v1", **environment)
    assert first.code == 0, first.messages
    receipt = first.document
    assert receipt["repo"] == repo and receipt["created"] and receipt["changed"] and receipt["private"]
    assert set(receipt["files"]) == hub.files(repo) == {path.name for path in saved.iterdir()}
    assert receipt["bytes_sent"] == sum(path.stat().st_size for path in saved.iterdir())
    assert receipt["url"] == f"{hub.url}/{repo}" and receipt["commit_url"].endswith(receipt["commit"])
    assert hub.read(repo, "model.safetensors") == (saved / "model.safetensors").read_bytes()
    assert hub.ask(f"/api/models/{repo}")["private"] is True
    assert hub.commits(repo)[0] == receipt["commit"] and len(hub.commits(repo)) == 2  # the hub's first, and ours
    assert tags(hub, repo) == {"v1": receipt["commit"]}

    again = hub.push(saved, repo, "--tag", "v1", **environment).document
    assert not again["changed"] and not again["created"] and again["files"] == [] and again["bytes_sent"] == 0
    assert again["commit"] == receipt["commit"] == hub.commits(repo)[0]

    old = dict(model_files(saved))
    save_folder(saved, {**old, "model.safetensors": weights(seed=1)})
    second = hub.push(saved, repo, **environment).document
    assert second["changed"] and second["files"] == ["model.safetensors", "perdure.json"]
    assert hub.read(repo, "model.safetensors") == weights(seed=1)
    assert hub.read(repo, "model.safetensors", "v1") == weights(seed=0)
    assert hub.token not in json.dumps(second) + first.messages


def test_progress_is_silent_off_a_terminal(hub: Hub, saved: Path) -> None:
    assert hub.push(saved, "me/quiet").messages == ""


def test_a_folder_in_the_home_is_found(hub: Hub, saved: Path) -> None:
    pushed = hub.push(Path("~") / saved.name, "me/from-home", HOME=str(saved.parent))
    assert pushed.code == 0 and pushed.document["changed"], pushed.messages


def test_a_bare_name_is_the_users_own(hub: Hub, saved: Path) -> None:
    assert hub.push(saved, "bare").document["repo"] == "me/bare"


def test_what_was_saved_earlier_leaves_and_what_people_added_stays(hub: Hub, tmp_path: Path) -> None:
    shards = {f"model-0000{n}-of-00002.safetensors": weights(n) for n in (1, 2)}
    index = {"model.safetensors.index.json": b'{"weight_map": {}}'}
    folder = save_folder(tmp_path / "out", {**shards, **index, "config.json": b"{}", "added_tokens.json": b"{}"})
    hub.push(folder, "me/stale")
    hub.commit_file("me/stale", "LICENSE", b"mine")
    hub.commit_file("me/stale", "README.md", b"# Written on the hub")

    save_folder(folder, {"model.safetensors": weights(3), "config.json": b"{}"})
    receipt = hub.push(folder, "me/stale").document
    assert receipt["deleted"] == ["added_tokens.json", *sorted(shards), "model.safetensors.index.json"]
    assert hub.files("me/stale") == {"model.safetensors", "config.json", "perdure.json", "LICENSE", "README.md"}
    assert len(hub.commits("me/stale")) == 5


def test_an_adapter_over_a_full_model(hub: Hub, tmp_path: Path) -> None:
    hub.push(save_folder(tmp_path / "full"), "me/adapted")
    adapter = {"adapter_model.safetensors": weights(5, size=8), "adapter_config.json": b"{}"}
    hub.push(save_folder(tmp_path / "adapter", adapter, kind="adapter"), "me/adapted")
    assert hub.files("me/adapted") == {*adapter, "perdure.json"}


def test_a_trainers_output_folder(hub: Hub, saved: Path) -> None:
    for name in ("checkpoint-10/model.safetensors", "checkpoint-10/optimizer.pt", "training_args.bin", "runs/log"):
        (saved / name).parent.mkdir(exist_ok=True)
        (saved / name).write_bytes(b"not to be published")
    receipt = hub.push(saved, "me/trained").document
    assert hub.files("me/trained") == {"model.safetensors", "config.json", "tokenizer.json", "perdure.json"}
    assert receipt["left_out"] == ["checkpoint-10", "runs", "training_args.bin"]


def test_a_card_edited_by_hand_is_published_and_the_manifest_follows(hub: Hub, saved: Path) -> None:
    save_folder(saved, {**model_files(saved), "README.md": b"---\nlicense: mit\n---\n# Ours\n"})
    hub.push(saved, "me/edited-card")
    (saved / "README.md").write_bytes("---\nlicense: mit\n---\n# Mine, naïve\n".encode())
    assert hub.push(saved, "me/edited-card").document["files"] == ["README.md", "perdure.json"]
    assert hub.read("me/edited-card", "README.md") == (saved / "README.md").read_bytes()
    verified = subprocess.run([sys.executable, "-m", "perdure", "verify", str(saved)], capture_output=True, check=False)
    assert verified.returncode == 0, verified.stdout


def test_a_card_with_invalid_metadata_is_rejected_in_the_hubs_words(hub: Hub, saved: Path) -> None:
    (saved / "README.md").write_text("---\nlicense: [unclosed\n---\n")
    refused = hub.push(saved, "me/invalid")
    assert refused.error["kind"] == "rejected" and "README.md" in refused.error["message"]
    assert hub.files("me/invalid") == set()


def test_a_corrupt_folder_is_refused_before_anything_is_sent(hub: Hub, saved: Path) -> None:
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    refused = hub.push(saved, "me/corrupt")
    assert refused.code == 1 and refused.error["kind"] == "corrupt"
    assert "model.safetensors" in refused.error["message"]
    assert not exists(hub, "me/corrupt")


def test_a_tag_never_moves(hub: Hub, saved: Path) -> None:
    tagged = hub.push(saved, "me/tagged", "--tag", "v1").document["commit"]
    save_folder(saved, {**model_files(saved), "config.json": b'{"new": 1}'})
    refused = hub.push(saved, "me/tagged", "--tag", "v1")
    assert refused.error["kind"] == "conflict" and "v1" in refused.error["message"]
    assert hub.commits("me/tagged")[0] == tagged and tags(hub, "me/tagged") == {"v1": tagged}
    assert hub.push(saved, "me/tagged", "--tag", "v2").code == 0
    assert tags(hub, "me/tagged").keys() == {"v1", "v2"}


def test_a_tag_or_branch_that_git_cannot_hold_beside_another_is_refused_before_the_commit(
    hub: Hub, saved: Path
) -> None:
    head = hub.push(saved, "me/beside", "--tag", "v1").document["commit"]
    save_folder(saved, {**model_files(saved), "config.json": b'{"new": 1}'})
    for options in (("--tag", "v1/x"), ("--revision", "main/x")):
        refused = hub.push(saved, "me/beside", *options).error
        assert refused["kind"] == "conflict" and "beside it. Nothing was sent" in refused["message"]
        assert hub.commits("me/beside") == hub.commits("me/beside", head) and tags(hub, "me/beside") == {"v1": head}


def test_a_tag_that_the_hub_refuses_after_the_commit(hub: Hub, saved: Path) -> None:
    refusing = f"""
from perdure.errors import Rejected
from perdure.publishing.publish import publish
from perdure.publishing.remote import Remote

def refuse(self, repo, tag, *, commit):
    raise Rejected("No tags today.")
Remote.create_tag = refuse
try:
    publish({str(saved)!r}, "me/untagged", tag="v1", endpoint={hub.url!r}, token={hub.token!r})
except Rejected as error:
    print(error.message)
    print(error.hint)
"""
    environment = hub.environment
    done = subprocess.run(
        [sys.executable, "-c", refusing], env=environment, capture_output=True, text=True, check=False
    )
    said, hint = done.stdout.splitlines()
    head = hub.commits("me/untagged")[0]
    assert said == f"It is published as {head}; the tag v1 is missing. No tags today."
    command = shlex.split(hint.removeprefix("Then: "))
    again = subprocess.run([sys.executable, "-m", *command], env=environment, check=False)
    assert again.returncode == 0 and tags(hub, "me/untagged") == {"v1": head}


@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_file_is_told_as_what_it_is(saved: Path, verify: bool) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(Corrupt, match=r"missing.*model\.safetensors"):
        publish(saved, "me/x", token="hf_someToken", endpoint="http://127.0.0.1:9", verify=verify)


def test_another_branch_is_created_from_main(hub: Hub, saved: Path) -> None:
    first = hub.push(saved, "me/branched").document["commit"]
    unchanged = hub.push(saved, "me/branched", "--revision", "same").document
    assert unchanged["commit"] == first and not unchanged["changed"]
    save_folder(saved, {**model_files(saved), "config.json": b'{"new": 1}'})
    receipt = hub.push(saved, "me/branched", "--revision", "dev/a").document
    assert receipt["revision"] == "dev/a" and hub.commits("me/branched", "dev%2Fa") == [
        receipt["commit"], *hub.commits("me/branched"),
    ]  # fmt: skip


def test_the_head_moved_while_we_pushed(hub: Hub, saved: Path) -> None:
    hub.push(saved, "me/raced")
    save_folder(saved, {**model_files(saved), "config.json": b'{"new": 1}'})
    racing = f"""
import json, urllib.request
from pathlib import Path
from perdure.errors import Conflict
from perdure.publishing.publish import publish
from perdure.publishing.remote import Remote

tree = Remote.tree
def tree_then_somebody_commits(self, repo, commit):
    seen = tree(self, repo, commit)
    self._api.create_commit(repo, [_added()], commit_message="faster")
    return seen
def _added():
    from huggingface_hub import CommitOperationAdd
    return CommitOperationAdd(path_in_repo="NOTES.txt", path_or_fileobj=b"somebody else's")
Remote.tree = tree_then_somebody_commits
try:
    publish({str(saved)!r}, "me/raced", endpoint={hub.url!r}, token={hub.token!r})
except Conflict as error:
    print(error.kind)
"""
    environment = hub.environment
    done = subprocess.run([sys.executable, "-c", racing], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "conflict\n", done.stderr
    assert "NOTES.txt" in hub.files("me/raced")
    assert hub.read("me/raced", "config.json") != b'{"new": 1}'


def test_tokens(hub: Hub, saved: Path) -> None:
    none = hub.push(saved, "me/none", HF_TOKEN="")
    assert none.code == 2 and none.error["kind"] == "unauthorized" and "HF_TOKEN" in none.error["hint"]
    for repo in ("me/wrong", "wrong"):
        wrong = hub.push(saved, repo, "--token", "hf_wrongTokenOfNobody")
        assert wrong.error["kind"] == "unauthorized"
        assert "hf_wrong" not in json.dumps(wrong.document) + wrong.messages


def test_tokens_that_may_not(hub: Hub, saved: Path) -> None:
    hub.push(saved, "me/mine")
    hub.push(saved, "me/shown", "--public")
    (saved / "README.md").write_text("# Not mine to say")
    for repo in ("me/mine", "me/shown", "me/new", "somebody/model"):  # private, public, missing, a stranger's
        refused = hub.push(saved, repo, HF_TOKEN=GUEST)
        assert refused.code == 2 and refused.error["kind"] == "unauthorized", repo
        assert GUEST not in json.dumps(refused.document) + refused.messages
    assert hub.push(saved, "mine", HF_TOKEN=READER).error["kind"] == "unauthorized"
    assert hub.push(saved, "mine", HF_TOKEN=GUEST).document["repo"] == "guest/mine"
    assert "README.md" not in hub.files("me/mine") | hub.files("me/shown")


@pytest.mark.parametrize("repo", ["datasets/me/x", "me/a--b", ""])
def test_bad_names_never_reach_the_network(saved: Path, repo: str) -> None:
    refused = push(saved, repo, "--endpoint", "http://127.0.0.1:9", "--token", "hf_x")
    assert refused.code == 2 and refused.error["kind"] == "invalid-input"


def test_a_hub_that_is_away_costs_nothing_and_the_command_pushes_later(hub: Hub, saved: Path) -> None:
    with socket.socket() as closed:  # bound, never listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        away = push(saved, "me/later", "--tag", "v1", "--message", "It's late", HF_TOKEN=hub.token,
                    HF_ENDPOINT=address)  # fmt: skip
    assert away.code == 3 and away.error["kind"] == "unavailable"
    assert str(saved) in away.error["message"] and "Nothing was lost" in away.error["message"]
    command = shlex.split(away.error["hint"].partition("Push it later with: ")[2].replace(address, hub.url))
    assert command[:2] == ["perdure", "push"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=hub.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tags(hub, "me/later") == {"v1": hub.commits("me/later")[0]}
    assert hub.ask("/api/models/me/later/commits/main")[0]["title"] == "It's late"


def tags(hub: Hub, repo: str) -> dict[str, str]:
    return {tag["name"]: tag["targetCommit"] for tag in hub.ask(f"/api/models/{repo}/refs")["tags"]}


def exists(hub: Hub, repo: str) -> bool:
    try:
        hub.ask(f"/api/models/{repo}")
    except urllib.error.HTTPError as error:
        assert error.code in (401, 404)
        return False
    return True


def test_what_people_write_and_measure_on_the_hub_stays_through_every_push(hub: Hub, saved: Path) -> None:
    def save(step: int, words: str = "") -> None:
        facts = Facts(name=f"words, step {step}", training=Training(steps=step))
        card = Card.from_facts(facts, existing=words).text
        save_folder(saved, {"model.safetensors": weights(step), "config.json": b"{}", "README.md": card.encode()})

    def card() -> str:
        return hub.read("me/words", "README.md").decode()

    hub.ask("/api/repos/create", {"name": "words", "type": "model"})
    hub.commit_file("me/words", "README.md", b"---\nlicense: mit\n---\n")
    save(1)
    assert hub.push(saved, "me/words").code == 0 and "license: mit" in card() and "step 1" in card()
    hub.run("import perdure; perdure.record_results('me/words', {'accuracy': 0.5})")
    save(2)
    assert hub.push(saved, "me/words").code == 0 and "| `accuracy` | 0.5 |" in card() and "step 2" in card()
    hub.commit_file("me/words", "README.md", f"{card()}\nOf the Hub.\n".encode())
    for step in (3, 4):
        save(step)
        assert hub.push(saved, "me/words").code == 0 and hub.push(saved, "me/words").document["changed"] is False
        assert "Of the Hub." in card() and "license: mit" in card() and f"step {step}" in card() and "0.5" in card()
    save(5, "Of this folder.\n")
    refused = hub.push(saved, "me/words").error
    assert refused["kind"] == "conflict" and "README.md" in refused["hint"] and "step 4" in card()
    save(5, "Of this folder.\n\nOf the Hub.\n")
    assert hub.push(saved, "me/words").code == 0 and "Of this folder." in card() and "license: mit" in card()
