"""Training teaches the answers, and says how far it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.demo.model import answers, build_model, build_tokenizer
from perdure.demo.questions import pairs
from perdure.demo.train import build_trainer


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # as the demo does
def test_a_model_learns_answers_by_heart_and_to_stop_after_them(tmp_path: Path) -> None:
    learned = pairs()[:16]
    tokenizer = build_tokenizer(pairs())
    model = build_model(tokenizer, seed=0)
    questions = [pair.question for pair in learned]
    steps: list[tuple[int, int, float, float]] = []

    assert [pair.answer for pair in learned] != answers(model, tokenizer, questions)
    trainer = build_trainer(
        model, tokenizer, learned, tmp_path, epochs=60, seed=0, progress=lambda *told: steps.append(told)
    )
    trainer.train()

    said = answers(model, tokenizer, questions)
    right = sum(pair.answer == answer for pair, answer in zip(learned, said, strict=True))
    assert right >= 15  # exact, so ended by the EOS
    assert [step for step, *_ in steps] == list(range(1, 61))
    assert steps[-1][1] == 60
    assert steps[-1][2] < steps[10][2]  # the loss
    assert steps[-1][3] == 0.0  # nothing left to do
    assert not any(tmp_path.glob("checkpoint-*"))
