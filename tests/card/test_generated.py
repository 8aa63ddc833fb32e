"""What other tools wrote into a card, and what of it stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from perdure.card.card import Card
from perdure.card.facts import BaseModel, Dataset, Facts


def refresh(page: str | None, facts: Facts) -> str:
    return Card.from_facts(facts, existing=page).text


def front(page: str) -> dict[str, object]:
    return yaml.safe_load(page.split("---\n")[1])


def generated_body(page: str) -> str:
    return page.split("---\n", 2)[2].split("<!-- perdure:record", maxsplit=1)[0].strip()


def trl_card(**changes: object) -> str:
    from trl.trainer.utils import generate_model_card

    settings = {
        "base_model": None, "model_name": "out", "hub_model_id": None, "dataset_name": None,
        "tags": ["trl", "dpo", "old"], "wandb_url": "https://wandb.ai/me/run", "trackio_url": None,
        "trainer_name": "DPO", "trainer_citation": "@x{y}", "paper_title": "Direct", "paper_id": "2305.18290",
        **changes,
    }  # fmt: skip
    return str(generate_model_card(**settings))


def test_a_card_by_trl_is_replaced(facts):
    facts = replace(facts, versions=dict.fromkeys(("TRL", "Transformers", "Pytorch", "Datasets", "Tokenizers"), "1"))
    page = refresh(trl_card(base_model="./local/base", model_name="my-model"), facts)
    assert "Quick start" not in page and "None" not in page and "local/base" not in page
    values = front(page)
    assert "licence" not in values and "model_name" not in values
    assert {"old", "generated_from_trainer", "my-run"} <= set(values["tags"])
    assert generated_body(page) == generated_body(refresh(None, facts))


def test_what_a_person_wrote_into_a_card_by_trl_stays(facts):
    card = trl_card().replace("## Training procedure\n", "## Training procedure\n\nI chose the rate by hand.\n")
    card = card.replace("licence: license", "license: mit\nlicence: license") + "\n\n## Limits\n\nMany.\n"
    page = refresh(card, (replace(facts, license=None)))
    assert "## Training procedure\n\nI chose the rate by hand.\n" in page and "## Limits\n\nMany." in page
    assert front(page)["license"] == "mit" and "If you had a time machine" not in page


def test_what_trl_knew_and_we_do_not_stays():
    page = refresh(trl_card(base_model="org/base", dataset_name="org/data"), (Facts(name="x")))
    assert front(page)["base_model"] == "org/base" and front(page)["datasets"] == "org/data"


def card_by_transformers() -> str:
    from transformers.modelcard import TrainingSummary

    return TrainingSummary(
        model_name="out",
        finetuned_from="org/base",
        dataset="ana/sums",
        hyperparameters={"learning_rate": 1e-3, "optimizer": "Use adamw with betas=(0.9,0.999) and epsilon=1e-08 and "
        "optimizer_args=No additional optimizer arguments"},
        eval_results={"Loss": 1.0},
        eval_lines=[{"Training Loss": 1.0, "Epoch": 1, "Step": 1, "Validation Loss": 1.0}],
    ).to_model_card()  # fmt: skip


def test_of_a_card_by_transformers_stays_what_is_not_known():
    page = refresh(card_by_transformers() + "\nMy own words.\n", Facts(name="other"))
    for said in (
        "My own words.",
        "# out\n",
        "- learning_rate: 0.001",
        "- Loss: 1.0",
        "| 1.0           | 1     |",
        "ana/s",
    ):
        assert said in page
    assert "More information needed" not in page and "generated automatically" not in page
    assert "Intended uses" not in page and "perdure:title" not in page


def test_of_a_card_by_transformers_goes_what_the_new_one_says(facts):
    known = replace(facts, name="out", bases=(BaseModel(id="org/base"),), datasets=(Dataset(id="ana/sums"),))
    known = replace(known, versions={"Transformers": "5", "Pytorch": "2", "Datasets": "1", "Tokenizers": "1"})
    table = "| 1.0           | 1     | 1    | 1.0             |"
    page = refresh(card_by_transformers() + "\n## Mine\n\nMy own words.\n", known)
    assert "My own words." in page and (table in page) == ("perdure:curves" not in page)
    for said in ("This model is", "It achieves", "were used during", "### Framework versions", "# out\n\nThis"):
        assert said not in page


FOREIGN = ("trl", "transformers", "peft")


def foreign_card(tool: str) -> str:
    return {"trl": trl_card, "transformers": card_by_transformers, "peft": form_by_peft}[tool]()


@pytest.mark.parametrize("tool", FOREIGN)
def test_what_a_person_wrote_into_any_line_of_another_tool_stays(tool, facts):
    lines = foreign_card(tool).split("\n")
    for index, line in enumerate(lines):
        if index <= lines.index("---", 1) or not line.strip():
            continue
        for edited in (f"{line} MINE", f"MINE {line}", f"{line}\nMINE", f"{line}\n- x: MINE"):
            page = refresh("\n".join((*lines[:index], edited, *lines[index + 1 :])), facts)
            assert page.count("MINE") == 1 and ("\n" in edited or edited in page), edited


def test_metadata_that_no_tool_could_have_written_stays(facts):
    card = trl_card(base_model="org/other").replace("library_name: transformers", "library_name: unsloth")
    card = card.replace("base_model: org/other", "base_model: [my/own, a/b] # both\npipeline_tag: image-text-to-text")
    again = Card.from_facts(facts, existing=card)
    for line in ("library_name: unsloth\n", "base_model: [my/own, a/b] # both\n", "pipeline_tag: image-text-to-text\n"):
        assert line in again.text
    assert {"library_name", "base_model", "pipeline_tag"} <= {conflict.part for conflict in again.conflicts}


def form_by_peft() -> str:
    from huggingface_hub import ModelCardData
    from huggingface_hub import __file__ as client

    form = Path(client).with_name("templates") / "modelcard_template.md"
    tags = ["base_model:adapter:/data/base", "base_model:adapter:org/b", "lora"]
    card = ModelCard.from_template(ModelCardData(library_name="peft", tags=tags), template_path=str(form))
    card.data["base_model"] = "/data/base"
    return f"{card}\n### Framework versions\n\n- PEFT 0.21.2"


def test_the_empty_form_that_peft_saves_is_replaced_and_answers_in_it_stay(facts):
    empty = form_by_peft()
    assert "- PEFT 0.21.2" in refresh(empty, facts)
    facts = replace(facts, versions={"PEFT": "0.21.2"})
    page = refresh(empty, facts)
    assert generated_body(page) == generated_body(refresh(None, facts)) and "/data/base" not in page
    assert front(page)["tags"] == ["base_model:adapter:org/b", "lora", "trl", "dpo", "my-run"]
    answered = empty.replace("# Model Card for Model ID", "# Aurora").replace(
        "### Out-of-Scope Use\n", "### Out-of-Scope Use\n\nMedicine.\n"
    )
    page = refresh(answered, facts)
    assert "# Aurora" in page and "## Uses\n\n### Out-of-Scope Use\n\nMedicine.\n" in page
    assert "Needed" not in page and "perdure:title" not in page and refresh(page, facts) == page
