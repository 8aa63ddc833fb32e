from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import perdure
from perdure import BaseModel, Card, Facts, License
from perdure.cli.card import command
from perdure.errors import InvalidInput, NotFound, UnsupportedFormat

torch = pytest.importorskip("torch")


@pytest.fixture
def folder(tmp_path):
    perdure.save_model(torch.nn.Linear(2, 2), tmp_path / "out")
    return tmp_path / "out"


def call(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_folder_gets_a_card_and_keeps_what_is_written_into_it(folder):
    code, out, _ = call(folder, "--dry-run")
    assert code == 0 and "+It has 6 parameters (`float32`)." in out.replace("A PyTorch module. ", "")
    with pytest.raises(NotFound):
        call(folder, "--check")
    code, out, err = call(folder)
    assert code == 0 and "Wrote" in err and "missing: license" in err and not out
    assert perdure.verify(folder).ok and "README.md" not in perdure.verify(folder).extra
    page = folder / "README.md"
    page.write_text(page.read_text().replace("A PyTorch module", "The module").replace("# out", "# out\n\nWords."))
    code, out, err = call(folder, "--json")
    found = json.loads(out)
    assert code == 0 and found["written"] and {one["kind"] for one in found["findings"]} == {"missing"}
    assert "The module" in page.read_text()
    known = Facts(name="out", bases=(BaseModel(id="org/base"),))
    Card.from_facts(known, existing=Card.load(folder)).save(folder)
    (conflict,) = [one for one in Card.load(folder).check(folder) if one.kind == "conflict"]
    assert "The module" in conflict.message and "org/base" in conflict.message and "--renew summary" in conflict.message
    assert str(conflict) in call(folder, "--check")[1]
    with pytest.raises(InvalidInput, match="'sumary'") as caught:
        call(folder, "--renew", "sumary")
    assert "summary" in caught.value.hint
    call(folder, "--renew", "summary")
    assert "org/base" in page.read_text() and "Words." in page.read_text()


def test_check_says_what_is_to_be_mended_and_writes_nothing(folder):
    page = folder / "README.md"
    text = (
        "---\nlicence: license\nlicense: nonsense\nlanguage: no\nbase_model: /data/base\npipeline_tag: nonsense\n"
        "model-index:\n- name: x\n---\n"
        "Todo lo demás. TODO. "
        "More information needed. See [this](notes.md) and `/home/me/x`; ![p](model.safetensors); hf_"
        + "a" * 34
        + "\n<img alt='x' src=\"gone.png\"> in ~/data, about ~ 3/4 of it\n\n[r]: lost.md\n[s]: model.safetensors\n"
    )
    page.write_text(text)
    code, out, _ = call(folder, "--check")
    assert code == 1 and page.read_text() == text
    for said in (
        "metadata: licence:", "metadata: language: it is 'False'", "metadata: base_model:", "metadata: pipeline_tag:",
        "metadata: model-index:", "placeholder: More information needed", "path: /home/me/x",
        "path: /data/base", "secret: line", "dead-link: notes.md", "dead-link: gone.png", "dead-link: lost.md",
        "path: ~/", "metadata: license:",
    ):  # fmt: skip
        assert said in out
    assert "model.safetensors" not in out and "hf_a" not in out
    assert "placeholder: TODO" in out and "Todo" not in out


def test_a_template_is_used_until_another_one_is(folder, tmp_path):
    house = tmp_path / "house.md.jinja"
    own = "{% block summary %}Ours.{% endblock %}{% block limits %}None.{% endblock %}{% block usage %}{% endblock %}"
    house.write_text('{% extends "card.md.jinja" %}' + own)
    call(folder, "--template", house)
    made = (folder / "README.md").read_text()
    assert "Ours." in made and "None." in made and "How to use" not in made
    call(folder)
    assert (folder / "README.md").read_text() == made
    assert call(folder, "--check")[1].startswith("missing: license") and "conflict" not in call(folder, "--check")[1]
    call(folder, "--renew", "summary")
    assert "Ours." not in (folder / "README.md").read_text() and "None." in (folder / "README.md").read_text()


def test_what_would_change_is_told_to_programs_too_and_checking_changes_nothing(folder):
    told = json.loads(call(folder, "--dry-run", "--json")[1])
    assert "+# out" in told["diff"] and not told["written"] and not (folder / "README.md").exists()
    for option in (["--dry-run"], ["--renew", "summary"]):
        assert call(folder, "--check", *option)[0] == 2


def test_a_good_card_has_nothing_to_mend(folder):
    Card.from_facts(Facts(name="out", license=License(id="mit"))).save(folder)
    assert call(folder, "--check") == (0, "", "")


def test_what_a_loop_of_ones_own_told_is_there_when_the_card_is_made_anew(folder):
    facts = perdure.describe(
        torch.nn.Linear(2, 2), name="mine", hyperparameters={"learning_rate": 0.5}, evaluation={"accuracy": 0.75}
    )
    card = Card.from_facts(facts)
    card.save(folder)
    assert perdure.verify(folder).ok and Facts.from_json((folder / "card_facts.json").read_text()) == facts
    assert call(folder)[0] == 0 and Card.load(folder).text == card.text and "`learning_rate`" in card.text


def test_metadata_that_is_no_yaml_is_a_conflict_that_can_be_resolved(folder):
    page = folder / "README.md"
    page.write_text("---\nlicense: [mit\n---\n# Ours\n")
    code, out, _ = call(folder, "--check", "--json")
    found = {(one["kind"], one["part"]) for one in json.loads(out)["findings"]}
    assert code == 1 and {("conflict", "metadata"), ("metadata", "metadata")} <= found
    call(folder, "--renew", "metadata")
    assert "[mit" not in page.read_text() and "# Ours" in page.read_text()
    assert "conflict" not in call(folder, "--check")[1]


def test_a_template_of_ones_own_and_facts_that_cannot_be_read(folder, tmp_path):
    (tmp_path / "house.jinja").write_text('{% extends "card.md.jinja" %}{% block limits %}Many.{% endblock %}')
    assert call(folder, "--template", tmp_path / "house.jinja")[0] == 0
    assert "\nMany.\n" in (folder / "README.md").read_text()
    for content, error in (("{", InvalidInput), ('{"perdure_facts": 99}', UnsupportedFormat)):
        (folder / "card_facts.json").write_text(content)
        with pytest.raises(error):
            call(folder)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises((InvalidInput, NotFound)):
        call(tmp_path)
    with pytest.raises(NotFound):
        call(tmp_path / "none")
