"""A trainer goes on from a checkpoint that another machine pushed to a Hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import make_model

from perdure import StateMismatch, attach, publish
from perdure.hub.server import HubServer

TOKEN = "hf_tokenOfMe1234567890"


def test_resumed_on_another_machine_equals_uninterrupted(sft, tokenizer, tmp_path, monkeypatch):
    from huggingface_hub import constants

    options = {"train": False, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    with HubServer(tmp_path / "hub", user="me", token=TOKEN) as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name, value in {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
        whole = sft(make_model(tokenizer, attention_dropout=0.1), **options)
        attach(whole)
        whole.train()
        publish(Path(whole.args.output_dir) / "checkpoint-2", "me/trained", revision="two", training_state=True)
        publish(Path(whole.args.output_dir) / "checkpoint-2", "me/trained", revision="model")

        torch.manual_seed(1)
        other = sft(make_model(tokenizer, attention_dropout=0.1), **options, output_dir=str(tmp_path / "other"))
        run = attach(other)
        with pytest.raises(StateMismatch, match="without its training state"):
            other.train(resume_from_checkpoint="hf://me/trained@model")
        other.train(resume_from_checkpoint="hf://me/trained@two")
    assert run.restored is not None and run.restored.path == tmp_path / "other" / "checkpoint-2"
    torch.testing.assert_close(other.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(other.optimizer.state_dict(), whole.optimizer.state_dict(), rtol=0, atol=0)
