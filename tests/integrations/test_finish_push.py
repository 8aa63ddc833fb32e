"""Publishing at the end of a run, through the real client, to a real hub."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from local_hub import TOKEN, reach
from tiny_models import make_model
from transformers import AutoModelForCausalLM

from perdure import BaseModel, License, Outbox, describe, publish, save_model
from perdure.checks.verify import verify
from perdure.hub.server import HubServer
from perdure.integrations.finish import finish


@pytest.fixture(autouse=True)
def online(monkeypatch, tmp_path, hub):
    """The hub on this machine is the only one that can be reached; transformers' own client is bound to it too."""
    reach(monkeypatch, hub.url, HF_XET_CACHE=str(tmp_path / "xet"))


def test_published_once_privately_with_card_and_results(sft, model, hub, tmp_path):
    trainer = sft(model, eval_set=True)
    done = finish(trainer, repo="me/first", tag="v0.1.0", token=TOKEN, endpoint=hub.url)
    assert done.problems == () and done.receipt is not None
    assert (done.receipt.repo, done.receipt.private, done.receipt.tag) == ("me/first", True, "v0.1.0")
    assert str(done) == f"saved {done.path} · published {done.receipt.commit_url} (tag v0.1.0)"

    api = HfApi(endpoint=hub.url, token=TOKEN)
    assert api.list_repo_commits("me/first")[0].title == "End of training (SFT, 2 steps)"
    assert [ref.name for ref in api.list_repo_refs("me/first").tags] == ["v0.1.0"]
    pulled = Path(api.snapshot_download("me/first", cache_dir=tmp_path / "cache"))
    assert (pulled / "README.md").read_bytes() == (done.path / "README.md").read_bytes()
    page = (pulled / "README.md").read_text()
    assert 'model="me/first"' in page and "](training_curves.png)" in page
    assert (pulled / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((pulled / "all_results.json").read_text())["eval_loss"] == done.metrics["eval_loss"]
    assert verify(pulled).ok
    AutoModelForCausalLM.from_pretrained(pulled)


def test_the_licence_and_languages_of_a_base_are_asked_of_the_hub(tokenizer, hub, tmp_path):
    save_model(make_model(tokenizer), tmp_path / "base")
    (tmp_path / "base" / "README.md").write_text("---\nlicense: llama3.2\nlanguage: [en, zh-CN]\n---\n# Base\n")
    publish(tmp_path / "base", "me/base", private=False, token=TOKEN, endpoint=hub.url)
    model = make_model(tokenizer)
    model.config._name_or_path = "me/base"
    facts = describe(model, name="mine")
    assert facts.license == License(id="llama3.2") and facts.languages == ("en", "zh")
    assert facts.bases == (BaseModel(id="me/base"),)


def test_the_trainers_own_arguments_are_honoured(sft, model, hub, monkeypatch):
    trainer = sft(model, train=False)
    trainer.args.push_to_hub = True
    trainer.args.hub_model_id = "me/by-args"
    trainer.args.hub_token = TOKEN
    trainer.args.hub_private_repo = False
    trainer.args.hub_revision = "try-1"
    done = finish(trainer)
    assert done.receipt is not None
    assert (done.receipt.repo, done.receipt.revision, done.receipt.private) == ("me/by-args", "try-1", False)
    assert finish(trainer, push_to_hub=False).receipt is None


def test_a_name_is_made_of_the_folder_and_the_user(sft, model, hub):
    done = finish(sft(model, train=False), push_to_hub=True, token=TOKEN, endpoint=hub.url)
    assert done.receipt is not None and done.receipt.repo == "me/out"


def test_a_wrong_token_costs_only_the_push(sft, model, hub, caplog):
    trainer = sft(model, train=False)
    done = finish(trainer, repo="me/second", token="hf_wrongwrongwrong", endpoint=hub.url)
    assert done.receipt is None and verify(done.path).ok
    assert done.push_error is not None and "perdure push" in done.push_error
    assert "hf_wrong" not in done.push_error + caplog.text
    assert done.problems == (done.push_error,) and [job.state for job in Outbox(done.path).jobs()] == ["failed"]
    assert finish(trainer, repo="me/second", token=TOKEN, endpoint=hub.url).receipt is not None
    assert [job.state for job in Outbox(done.path).jobs()] == ["cancelled", "done"]


@pytest.mark.parametrize("end", ["\r\nX-Evil: 1", " x", "é"])
def test_a_token_that_is_none_is_told_nowhere(sft, model, hub, caplog, end):
    trainer = sft(model, train=False)
    trainer.args.hub_token = TOKEN + end
    done = finish(trainer, repo="me/odd-token", endpoint=hub.url)
    assert done.receipt is None and done.push_error is not None and "token" in done.push_error
    assert TOKEN not in done.push_error + caplog.text + repr(done)


def test_a_token_with_a_line_break_is_that_token(sft, model, hub, caplog):
    trainer = sft(model, train=False)
    trainer.args.hub_token = TOKEN + "\n"
    done = finish(trainer, repo="me/line-break", endpoint=hub.url)
    assert done.problems == () and done.receipt is not None
    assert TOKEN not in caplog.text + repr(done)


def test_a_hub_that_comes_back_in_time_is_waited_for(sft, model, tmp_path):
    trainer = sft(model, train=False)
    box = Outbox(trainer.args.output_dir)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    late = HubServer(tmp_path / "late", port=port, user="me", token=TOKEN)

    def come_back() -> None:
        while not any(job.error for job in box.jobs()):
            time.sleep(0.1)
        late.start()

    back = threading.Thread(target=come_back, daemon=True)
    back.start()
    done = finish(trainer, repo="me/late", token=TOKEN, endpoint=f"http://127.0.0.1:{port}", wait=60)
    back.join(timeout=10)
    late.stop()
    assert done.problems == () and done.receipt is not None and done.receipt.repo == "me/late"
    assert [job.state for job in box.jobs()] == ["done"]


def test_nobody_waits_longer_than_is_allowed(sft, model, hub):
    trainer = sft(model, train=False)
    folder = Path(trainer.args.output_dir)
    model.save_pretrained(folder / "checkpoint-1")
    away = "http://127.0.0.1:9"  # so that it is left however fast the worker is
    Outbox(folder).add(folder / "checkpoint-1", "me/left", endpoint=away)
    done = finish(trainer, repo="me/left", token=TOKEN, endpoint=away, wait=0)
    assert done.receipt is None and done.push_error is not None
    assert "waits in the outbox, with 1 more" in done.push_error
    assert done.push_error.endswith(f"Push it with: perdure outbox drain {folder}") and done.problems == (
        done.push_error,
    )
    assert [job.state for job in Outbox(done.path).jobs()] == ["queued", "queued"]


def test_a_tag_that_is_taken_costs_only_the_push(sft, model, hub):
    first = finish(sft(model, train=False), repo="me/third", tag="v1", token=TOKEN, endpoint=hub.url)
    assert first.push_error is None
    model.lm_head.weight.data += 1
    second = finish(sft(model, train=False), repo="me/third", tag="v1", token=TOKEN, endpoint=hub.url)
    assert second.receipt is None and second.push_error is not None and "v1" in second.push_error
