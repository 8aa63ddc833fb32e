"""Whatever goes wrong at the end of training, the model is saved; and what it cannot save, `finish` says first."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from cards import card_of
from tiny_models import make_model
from transformers import AutoModelForCausalLM

from perdure import Outbox
from perdure.checks.verify import verify
from perdure.errors import InvalidInput, SaveFailed
from perdure.integrations.finish import finish


def test_an_evaluation_that_fails_costs_nothing(sft, model, monkeypatch, caplog):
    trainer = sft(model, eval_set=True)

    def run_out_of_memory(*_: Any, **__: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(trainer, "evaluation_loop", run_out_of_memory)
    done = finish(trainer)
    assert done.metrics == {} and "MemoryError: no room" in done.problems[0]
    assert verify(done.path).ok and "no room" in caplog.text


def test_an_interrupted_evaluation_leaves_a_whole_model_with_its_card(sft, model, monkeypatch):
    trainer = sft(model, eval_set=True)

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "evaluation_loop", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finish(trainer)
    folder = Path(trainer.args.output_dir)
    assert verify(folder).ok
    assert card_of(folder)[0]["library_name"] == "transformers"
    assert "train_loss" in json.loads((folder / "all_results.json").read_text())


def test_a_hub_that_is_away_costs_only_the_push(sft, model, caplog):
    trainer = sft(model)
    with caplog.at_level(logging.WARNING, logger="perdure"):
        done = finish(trainer, repo="me/model", tag="v1", token="hf_secret", endpoint="http://127.0.0.1:9")
    assert done.receipt is None and verify(done.path).ok
    assert done.push_error is not None and done.problems == (done.push_error,)
    assert str(done) == f"saved {done.path} · not published (push_error says how to do it later)"
    assert "\n" not in done.push_error and f"perdure outbox drain {done.path}" in done.push_error
    (job,) = Outbox(done.path).jobs()
    assert (job.state, job.repo, job.tag, job.endpoint) == ("queued", "me/model", "v1", "http://127.0.0.1:9")
    assert done.push_error in caplog.text and "hf_secret" not in caplog.text
    assert "hf_secret" not in repr(done)


@pytest.mark.parametrize(
    ("repo", "word"), [("not a name!", "NAMESPACE/NAME"), ("a/b/c", "NAMESPACE/NAME"), ("", "NAMESPACE/NAME")]
)
def test_a_repository_name_that_is_none_costs_only_the_push(sft, model, repo, word):
    done = finish(sft(model, train=False), repo=repo)
    assert done.receipt is None and done.push_error is not None and word in done.push_error and verify(done.path).ok


def test_the_base_a_caller_gives_is_never_a_path(sft, model, tmp_path):
    done = finish(sft(model, train=False), base_model=str(tmp_path))
    assert "base_model" in done.problems[0]
    assert "base_model" not in card_of(done.path)[0]


def test_what_the_card_cannot_name_is_a_problem(sft, tokenizer, tmp_path):
    make_model(tokenizer).save_pretrained(tmp_path / "base")
    trainer = sft(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), train=False)
    done = finish(trainer, dataset_name=["openai/gsm8k", "./my data"])
    assert len(done.problems) == 2 and "dataset_name='./my data'" in done.problems[0]
    assert str(done) == f"saved {done.path} · 2 notes (in problems)"
    assert "base_model=" in done.problems[1] and str(tmp_path) not in done.problems[1]
    assert finish(trainer, base_model="org/base").problems == ()


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(sft, model, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises((SaveFailed, InvalidInput)):
        finish(sft(model, train=False), output_dir=tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("flag", "how"), [("is_fsdp_enabled", "FSDP"), ("is_deepspeed_enabled", "ZeRO-3")]
)  # both need several devices to be had for real
def test_a_sharded_model_is_refused_before_anything_is_written(sft, model, tmp_path, flag, how):
    trainer = sft(model, train=False)
    setattr(trainer, flag, True)
    with pytest.raises(InvalidInput, match=how):
        finish(trainer, output_dir=tmp_path / "sharded")
    assert not (tmp_path / "sharded").exists()


def test_a_card_that_cannot_be_made_never_costs_the_weights(sft, model, monkeypatch):
    trainer = sft(model, train=False)
    monkeypatch.setattr(trainer, "_paper", 3)  # a trainer of somebody's own, with another idea of this attribute
    done = finish(trainer)
    assert "model card could not be made" in done.problems[0] and done.card is None
    AutoModelForCausalLM.from_pretrained(done.path)


def test_what_is_no_trainer_is_told_so(model):
    with pytest.raises(InvalidInput, match="LlamaForCausalLM"):
        finish(model)


def test_results_that_cannot_be_written_cost_neither_the_model_nor_the_run(sft, model, monkeypatch):
    from perdure.integrations import ending

    def full_disk(*_: Any) -> None:
        raise SaveFailed("No space left on device.")

    monkeypatch.setattr(ending, "amend", full_disk)
    done = finish(sft(model, eval_set=True, train=False))
    assert "No space left" in done.problems[0] and done.metrics["eval_loss"] and verify(done.path).ok
    assert card_of(done.path)[0]["library_name"] == "transformers"
