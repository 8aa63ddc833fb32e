from __future__ import annotations

import re

import pytest
from huggingface_hub import ModelCard

import perdure
from perdure import Card, Evaluation, Facts, InvalidInput, License

PERSONAL = """---
license: mit
pipeline_tag: text-generation
model-index:
- name: ours   # as published
  results:
  - task: {type: text-generation}
    dataset: {type: openai/gsm8k, name: Grade school math, split: test}
    metrics:
    - {type: accuracy, value: 0.5, verified: true}
---
# Ours

Words.
"""


def test_results_are_added_to_table_and_index_and_stay(tmp_path):
    facts = Facts(
        name="x",
        evaluation=(Evaluation(metrics={"eval_loss": 0.5}),),
        weights=perdure.Weights(pipeline_tag="text-generation"),
    )
    card = Card.from_facts(facts).with_results({"accuracy": 0.25}, dataset="openai/gsm8k", split="test")
    card = card.with_results({"accuracy": 0.75}, dataset="openai/gsm8k", split="test").with_results(
        {"f1": float("nan")}
    )
    (result,) = ModelCard(card.text).data.eval_results
    assert (result.dataset_type, result.dataset_split, result.metric_type, result.metric_value) == (
        "openai/gsm8k", "test", "accuracy", 0.75,
    )  # fmt: skip
    assert "| `accuracy` | 0.75 | `openai/gsm8k` | `test` |" in card.text and "| `f1` | nan |  |  |" in card.text
    again = Card.from_facts(facts, existing=card)
    assert "| `eval_loss`" in again.text and again.metadata["model-index"] == card.metadata["model-index"]
    assert {"`accuracy`", "`f1`", "`eval_loss`"} <= set(re.findall(r"`\w+`", again.text)) and not again.conflicts
    assert Card.from_facts(facts, existing=again) == again


def test_an_index_that_a_person_wrote_is_changed_only_where_it_was_asked_for():
    card = Card.parse(PERSONAL.replace("   # as published", "")).with_results(
        {"accuracy": 0.75, "bleu": 1}, dataset="openai/gsm8k", split="test"
    )
    (entry,) = card.metadata["model-index"]
    assert entry["results"][0]["metrics"] == [
        {"type": "accuracy", "value": 0.75, "verified": True},
        {"type": "bleu", "value": 1, "name": "bleu"},
    ]
    assert entry["results"][0]["dataset"]["name"] == "Grade school math" and not card.conflicts
    assert "# Ours\n\nWords.\n" in card.text


def test_a_comment_in_the_index_is_not_lost():
    card = Card.parse(PERSONAL).with_results({"accuracy": 0.75}, dataset="openai/gsm8k", split="test")
    assert [conflict.part for conflict in card.conflicts] == ["model-index"]
    assert card.text.startswith(PERSONAL) and "0.75" in card.text


def test_what_a_person_says_of_a_result_is_no_business_of_a_refresh():
    facts = Facts(name="x", weights=perdure.Weights(pipeline_tag="text-generation"))
    card = Card.from_facts(facts).with_results({"accuracy": 0.5, "f1": 1}, dataset="org/d")
    edited = card.text.replace("value: 0.5", "value: 0.9")
    again = Card.from_facts(facts, existing=edited)
    assert [conflict.part for conflict in again.conflicts] == ["model-index"] and "value: 0.9" in again.text
    assert not Card.from_facts(facts, existing=edited, renew=["model-index"]).conflicts


@pytest.mark.parametrize(
    "call",
    [
        lambda: Card.parse("x").with_results({"a": 1}, dataset="org/d"),
        lambda: Card.parse("x").with_results({"a": 1}, dataset="/data/d", task="t"),
        lambda: Card.parse("x").with_results({"a": True}),
        lambda: Card.parse("x").with_results({" ": 1.0}),
        lambda: Card.parse("---\na: &x 1\nb: *x\n---\n").with_metadata({"license": "mit"}),
        lambda: Card.parse("---\na:\n- 1 # one\n- 2\n---\n").with_metadata({"a": [2]}),
    ],
)
def test_what_cannot_be_written_is_refused(call):
    with pytest.raises(perdure.InvalidInput):
        call()


def test_metadata_is_set_key_by_key():
    card = Card.parse("---\n# ours\nlicense: mit # yes\nx: 1\n---\nwords").with_metadata(
        {"x": None, "language": ["no"]}
    )
    assert card.text == "---\n# ours\nlicense: mit # yes\nlanguage:\n- 'no'\n---\nwords"
    generated = Card.from_facts(Facts(name="x", license=License(id="mit"))).with_metadata({"license": "apache-2.0"})
    again = Card.from_facts(Facts(name="x", license=License(id="mit")), existing=generated)
    assert again.metadata["license"] == "apache-2.0" and not again.conflicts
    (conflict,) = Card.from_facts(Facts(name="x", license=License(id="gpl-3.0")), existing=generated).conflicts
    assert "license: apache-2.0; it would say: license: gpl-3.0" in str(conflict)


def test_a_part_that_said_nothing_for_a_while_comes_back():
    known, unknown = (
        Facts(name="x", license=License(id="mit"), evaluation=(Evaluation(metrics={"eval_loss": 1}),)),
        Facts(name="x"),
    )
    card = Card.from_facts(known)
    without = Card.from_facts(unknown, existing=card)
    assert "license" not in without.metadata and "eval_loss" not in without.text
    assert Card.from_facts(known, existing=without).metadata == card.metadata
    assert "eval_loss" in Card.from_facts(known, existing=without).text


@pytest.mark.parametrize(
    "text", ["", "\ufeff---\na: 1\n---\nx", "---  \r\na: 1\r\n---\t\r\n", "---\n---\nx\n", "no\nend"]
)
def test_a_card_is_saved_as_it_was_read(tmp_path, text):
    (tmp_path / "README.md").write_bytes(text.encode())
    card = Card.load(tmp_path)
    card.with_metadata({}).save(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == text.encode() and len(list(tmp_path.iterdir())) == 1


def test_a_card_in_a_saved_folder_is_part_of_the_save(tmp_path):
    torch = pytest.importorskip("torch")
    perdure.save_model(torch.nn.Linear(2, 2), tmp_path / "out")
    Card.from_facts(Facts(name="x")).save(tmp_path / "out")
    Card.load(tmp_path / "out").with_results({"loss": 1.0}).save(tmp_path / "out")
    found = perdure.verify(tmp_path / "out")
    assert found.ok and "README.md" not in found.extra
    with pytest.raises(perdure.NotFound):
        Card.load(tmp_path / "none")
    with pytest.raises(perdure.NotFound):
        Card.parse("x").save(tmp_path / "none")


def test_a_card_without_a_name_has_no_title_and_files_nothing(tmp_path):
    facts = Facts(
        name=None,
        weights=perdure.Weights(pipeline_tag="text-generation"),
        evaluation=(Evaluation(metrics={"eval_loss": 0.5}, dataset=perdure.Dataset(id="org/data")),),
    )
    card = Card.from_facts(Facts.from_json(facts.to_json()))
    assert "\n# " not in card.text and "`eval_loss`" in card.text and "model-index" not in card.metadata
    with pytest.raises(InvalidInput, match="no title"):
        card.with_results({"accuracy": 1}, dataset="org/data")
    for name in ("/home/me/x", f"x hf_{'a' * 30}"):
        with pytest.raises(InvalidInput) as caught:
            card.with_results({name: 1})
        assert "hf_a" not in str(caught.value)


def test_a_card_that_is_a_link_is_written_through_and_does_not_lead_out(tmp_path):
    out = tmp_path / "out"
    (out / "docs").mkdir(parents=True)
    (out / "README.md").symlink_to("docs/card.md")
    Card.parse("# ours\n").save(out)
    assert (out / "README.md").is_symlink() and (out / "docs" / "card.md").read_text() == "# ours\n"
    (tmp_path / "secrets").write_text("mine")
    (out / "README.md").unlink()
    (out / "README.md").symlink_to(tmp_path / "secrets")
    for call in (Card.load, Card.parse("# x\n").save):
        with pytest.raises(perdure.InvalidInput, match="leads out"):
            call(out)
    assert (tmp_path / "secrets").read_text() == "mine"
