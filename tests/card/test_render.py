from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from perdure.card.card import Card
from perdure.card.facts import BaseModel, Dataset, Evaluation, Facts, License, Quantization, Weights
from perdure.card.markdown import code, text
from perdure.card.metadata import dump
from perdure.card.render import render
from perdure.card.training import Hardware, Method, Training

HOSTILE = [
    "a\n---\ninjected: true\n---\n# heading",
    "<script>alert(1)</script>",
    "--> <b>x</b> <!--",
    "`code` ``two`` |pipe| *bold* [x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "no",
    "1e3",
    "12:30",
    "key: value # comment",
    "'quote\" \\ back",
    "\u202ereversed\u0000\u0007",
    "<!-- /perdure:summary -->",
    "🦜 café — naïve",
]


def refresh(page: str | None, facts: Facts) -> str:
    return Card.from_facts(facts, existing=page).text


def test_the_card_says_what_is_known(facts):
    page = refresh(None, facts)
    for said in (
        "# my-model",
        "A fine-tuned version of [Qwen/Qwen2-0.5B](https://huggingface.co/Qwen/Qwen2-0.5B)",
        "`0a1b2c`",
        "1,234,567 parameters",
        'pipeline("text-generation", model="me/my-model")',
        "| `learning_rate` | `2e-05` |",
        "| `eval_loss` | 0.5 |",
        "The run took 1,000 steps. It ran on 2 × GPU.",
        "[Weights &amp; Biases](https://wandb.ai/me/run)",
        "https://huggingface.co/papers/2305.18290",
        "- TRL: 1.16.0",
        "vonwerra2020trl",
    ):
        assert said in page


def test_what_is_not_known_is_left_out():
    rendered = render(Facts(name="x"))
    assert rendered.metadata == {"library_name": "transformers"}
    assert {name for name, part in rendered.regions.items() if part} == {"title", "summary"}
    assert "None" not in refresh(None, Facts(name="x"))


def test_the_real_client_reads_the_same_metadata(facts):
    card = ModelCard(refresh(None, facts))
    assert isinstance(card.data, ModelCardData)
    data = card.data
    assert (data.base_model, data.license, data.library_name) == ("Qwen/Qwen2-0.5B", "apache-2.0", "transformers")
    assert data.language == ["en", "no"] and data.pipeline_tag == "text-generation"
    assert data.datasets == ["openai/gsm8k", "org/more"] and data.tags == ["trl", "dpo", "my-run"]
    assert data["base_model_relation"] == "finetune"
    again = ModelCard(str(card))
    assert again.data.to_dict() == card.data.to_dict() and again.text == card.text


def test_a_card_that_the_client_rewrote_is_still_ours_to_renew(facts):
    rewritten = str(ModelCard(refresh(None, facts)))
    renewed = refresh(
        rewritten, (replace(facts, license=License(id="mit"), evaluation=(Evaluation(metrics={"eval_loss": 0.25}),)))
    )
    assert ModelCard(renewed).data.license == "mit" and "| `eval_loss` | 0.25 |" in renewed


def test_an_adapter(facts):
    weights = Weights(kind="adapter", pipeline_tag="text-generation", architecture="Qwen2ForCausalLM", chat=False)
    base = BaseModel(id="Qwen/Qwen2-0.5B", relation="adapter")
    page = refresh(None, (replace(facts, weights=weights, bases=(base,))))
    assert "library_name: peft\n" in page and "base_model_relation: adapter\n" in page
    assert "An adapter for [Qwen/Qwen2-0.5B]" in page
    assert 'AutoPeftModelForCausalLM.from_pretrained("me/my-model")' in page
    nameless = refresh(None, (replace(facts, weights=weights, bases=())))
    assert "base_model" not in nameless.split("---")[1] and "AutoPeft" not in nameless


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (Weights(architecture="BertForSequenceClassification", pipeline_tag="text-classification"), "classifier("),
        (Weights(architecture="ViTModel"), 'ViTModel.from_pretrained(".")'),
        (Weights(kind="module"), 'load_file("model.safetensors")'),
    ],
)
def test_other_models(weights, said):
    assert said in render(Facts(name="x", weights=weights)).regions["usage"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(facts, hostile):
    training = Training(hyperparameters={hostile: hostile}, results={hostile: 1}, hardware=Hardware(name=hostile))
    wild = replace(facts, name=hostile, tags=(hostile,), training=training, versions={hostile: hostile})
    page = refresh(None, wild)
    front = yaml.safe_load(page.split("---\n")[1])
    assert front["tags"] == [hostile.strip()] and "injected" not in front
    body = re.sub(r"^<!-- /?perdure:.*-->$", "", page.split("---\n", 2)[2], flags=re.MULTILINE)
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    inner = [child for token in tokens for child in token.children or []]
    assert not [token for token in (*tokens, *inner) if token.type in ("html_block", "html_inline", "image")]
    assert sum(token.type == "heading_open" and token.tag == "h1" for token in tokens) == 1
    links = [token.attrs["href"] for token in inner if token.type == "link_open"]
    assert all(str(link).startswith("https://huggingface.co/") for link in links)
    rows = [token for token in tokens if token.type == "td_open"]
    assert len(rows) % 2 == 0 and len(rows) == 2 * sum(token.type == "tr_open" for token in tokens) - 2 * sum(
        token.type == "table_open" for token in tokens
    )
    assert refresh(page, wild) == page


@given(st.text(max_size=60))
def test_any_text_stays_text(value):
    (paragraph,) = [token for token in MarkdownIt("commonmark").parse("x " + text(value)) if token.type == "inline"]
    assert {child.type for child in paragraph.children or []} <= {"text", "text_special"}
    spans = MarkdownIt("commonmark").parse("x " + code(value))
    assert {child.type for child in spans[1].children or []} <= {"text", "code_inline"}


@given(st.dictionaries(st.sampled_from(["license", "tags"]), st.lists(st.text(max_size=30), max_size=3)))
def test_metadata_means_the_same_when_read_back(values):
    assert yaml.safe_load(dump(values)) == values


@pytest.mark.parametrize("word", ["no", "On", "y", "null", "~", "1e3", "0o17", "0x1F", "1_000", "12:30", "1.0", ".inf"])
def test_words_that_other_yaml_readers_take_for_something_else_are_quoted(word):
    assert dump({"tags": [word]}) == f"tags:\n- '{word}'\n"


def test_how_to_use_a_quantized_model_and_adapters_to_such(facts):
    packed = Quantization(method="bitsandbytes nf4", bits=4)
    model = replace(facts, weights=replace(facts.weights, quantization=packed))
    said = render(model).regions
    assert 'pipeline("text-generation", model="me/my-model")' in said["usage"] and "4 bits each" in said["summary"]
    adapter = replace(
        model, weights=replace(model.weights, kind="adapter"), bases=(BaseModel(id="org/base", relation="adapter"),)
    )
    said = render(adapter).regions
    assert 'AutoPeftModelForCausalLM.from_pretrained("me/my-model")' in said["usage"]
    assert "The base's weights are quantized with" in said["summary"]
    for other in (replace(adapter, bases=()), replace(adapter, weights=Weights(kind="adapter", pipeline_tag=None))):
        assert '`peft.PeftModel.from_pretrained(base, "me/my-model")`' in render(other).regions["usage"]


def test_no_digest_and_no_list_of_names_is_wider_than_a_phone():
    authors = " and ".join(f"Somebody, Number{n}" for n in range(20))
    method = Method(
        name="X",
        library="TRL",
        citation=f"@misc{{x,\n  title={{{'A b ' * 30}}},\n  author = {{{authors}}},\n  year = 2026\n}}",
    )
    facts = Facts(
        name="x",
        datasets=(Dataset(fingerprint="sha256:" + "0123456789abcdef" * 4),),
        training=Training(method=method, results={"loss": 0.25, "train_loss": 1.5}),
    )
    text = Card.from_facts(facts).text
    assert "`0123456789ab`" in text
    assert all(len(line) < 100 for line in text.splitlines() if not line.startswith("<!--"))
    cited = text.partition("author")[2].partition("year")[0]
    assert " ".join(cited.split()) == f"= {{{authors}}},", "the same names in the same order"
    assert "| `loss` (last logged) | 0.25 |\n| `train_loss` (mean of the run) | 1.5 |" in text
