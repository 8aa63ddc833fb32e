"""The tokenizer loses nothing, ends every turn with its EOS, and the model is what it says."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.demo.model import END, PAD, answers, build_model, build_tokenizer
from perdure.demo.questions import pairs


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(pairs())


@pytest.mark.parametrize("text", ["What does ENOENT mean?", "  Ünïcödé\n\tand “quotes” 🙂 ", "a  b   c", "\x00\x7f"])
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_every_pair_survives_and_no_token_is_unknown(tokenizer: Any) -> None:
    for pair in pairs():
        assert tokenizer.decode(tokenizer(pair.answer)["input_ids"]) == pair.answer


def test_a_conversation_ends_with_the_eos_and_continues_its_prompt(tokenizer: Any) -> None:
    question = [{"role": "user", "content": "What?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True)["input_ids"]
    whole = tokenizer.apply_chat_template([*question, {"role": "assistant", "content": "That."}])["input_ids"]
    assert tokenizer.eos_token == END
    assert whole[-1] == tokenizer.eos_token_id
    assert whole[: len(prompt)] == prompt  # else the loss would be taken on parts of the question


def test_padding_is_not_the_eos(tokenizer: Any) -> None:
    assert tokenizer.pad_token == PAD
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_model_is_small_knows_its_eos_and_is_the_same_for_the_same_seed(tokenizer: Any) -> None:
    model, again = build_model(tokenizer, seed=3), build_model(tokenizer, seed=3)
    assert 1e6 < model.num_parameters() < 5e6
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert all((a == b).all() for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_an_answer_does_not_depend_on_who_is_asked_beside_it(tokenizer: Any) -> None:
    model = build_model(tokenizer, seed=0)
    questions = [pair.question for pair in pairs()[:3]] + ["A much longer question than any of the others, is it not?"]
    assert answers(model, tokenizer, questions)[0] == answers(model, tokenizer, questions[:1])[0]
