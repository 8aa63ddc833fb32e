"""The card and its facts, as they stand beside each checkpoint and the finished model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import make_model

import perdure
from perdure import NotFound
from perdure.card.facts import Facts
from perdure.card.training import Hardware
from perdure.integrations.documents import of_checkpoint


def facts_in(folder: Path) -> Facts:
    return Facts.from_json((folder / "card_facts.json").read_bytes())


def test_each_checkpoint_and_the_end_tell_what_is_known_by_then(sft, model, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("# Ours\n\nA person's words.\n")
    trainer = sft(
        model, train=False, eval_set=True, save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=1
    )
    (tmp_path / "house.jinja").write_text('{% extends "card.md.jinja" %}{% block limits %}Many.{% endblock %}')
    with pytest.raises(NotFound):
        perdure.attach(trainer, card_template=tmp_path / "none.jinja")
    perdure.attach(trainer, card_template=tmp_path / "house.jinja")
    trainer.train()
    page = tmp_path / "out" / "README.md"
    known = facts_in(tmp_path / "out" / "checkpoint-2")
    known = replace(known, weights=replace(known.weights, parameters=None))  # the end knows more
    perdure.Card.from_facts(known, existing=page.read_text()).save(page.parent)
    page.write_text(page.read_text().replace("A model, trained", "The model, trained"))
    done = perdure.finish(trainer, tags=["mine"])
    (problem,) = done.problems
    assert f"perdure card {tmp_path / 'out'} --renew summary" in problem
    for folder, steps in ((tmp_path / "out" / "checkpoint-1", 1), (tmp_path / "out", 2)):
        assert perdure.verify(folder).ok and "A person's words." in (folder / "README.md").read_text()
        assert "Many." in (folder / "README.md").read_text()
        facts = facts_in(folder)
        training = facts.training
        assert training is not None and "eval_loss" in facts.evaluation[0].metrics
        assert facts.name == ("out" if folder.name == "out" else "out, step 1")
        assert training.steps == steps and [at for at, _ in training.history["loss"]] == list(range(1, steps + 1))
        assert len(training.history["eval_loss"]) >= steps and training.tokens
        assert isinstance(training.hardware, Hardware) and training.hardware.memory
        assert facts.weights.dtypes == {"float32": facts.weights.parameters}
        train, evaluation = facts.datasets
        assert (train.rows, train.use, evaluation.use) == (8, "training", "evaluation")
        assert train.fingerprint is not None and train.fingerprint.startswith("sha256:")
        assert str(tmp_path) not in (folder / "card_facts.json").read_text()
    assert training.seconds and training.seconds > 0, "the run's, at its end"
    assert done.saved is not None and "card_facts.json" in done.saved.files
    monkeypatch.setattr(trainer, "is_world_process_zero", lambda: False)
    assert of_checkpoint(trainer, tmp_path / "out" / "checkpoint-3", None, {}) == {}, "the main process alone writes it"


def test_a_card_that_cannot_be_made_stops_no_training(sft, tokenizer, tmp_path, caplog):
    trainer = sft(make_model(tokenizer), train=False, save_strategy="steps", save_steps=2)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "README.md").write_bytes(b" " * (5 * 2**20))
    perdure.attach(trainer)
    trainer.train()
    assert perdure.verify(tmp_path / "out" / "checkpoint-2").ok
    assert not (tmp_path / "out" / "checkpoint-2" / "README.md").exists()
    assert "has no model card" in caplog.text
