from __future__ import annotations

from pathlib import Path

import pytest

from perdure import Card, Facts, InvalidInput, NotFound


def test_a_template_overrides_regions_and_adds_some(facts, tmp_path):
    template = tmp_path / "mine.jinja"
    template.write_text(
        '{% extends "card.md.jinja" %}\n'
        "{% set house = 'ACME' %}\n"
        "{% block summary %}{{ super() }} Made by {{ house }}: {{ facts.name | text }}.{% endblock %}\n"
        "{% block limits %}## Limits\n\n\n\nMany.{% endblock %}\n"
        "{% block versions %}{% endblock %}\n"
    )
    card = Card.from_facts(facts, template=template)
    assert "`Qwen2ForCausalLM`). Made by ACME: my-model." in card.text
    assert card.text.index("perdure:summary") < card.text.index("## Limits\n\nMany.") < card.text.index("perdure:usage")
    assert "Framework versions" not in card.text
    edited = card.text.replace("Many.", "Many, I fear.")
    again = Card.from_facts(facts, existing=edited, template=template)
    assert again.text == edited and not again.conflicts, "the template says what it said"
    template.write_text(template.read_text().replace("Many.", "None."))
    again = Card.from_facts(facts, existing=edited, template=template)
    assert again.text == edited and [one.part for one in again.conflicts] == ["limits"]
    plain = Card.from_facts(facts, existing=card)
    assert plain.text == card.text and not plain.conflicts, "what the template said stays without it"
    plain = Card.from_facts(facts, existing=card, renew=("limits", "versions"))
    assert "Limits" not in plain.text and "Framework versions" in plain.text


def test_a_table_of_results_by_a_template_is_not_replaced_by_another(facts, tmp_path):
    template = tmp_path / "mine.jinja"
    template.write_text(
        '{% extends "card.md.jinja" %}{% block evaluation %}'
        "{% for one in results %}{{ one.metric }}={{ one.value }};{% endfor %}{% endblock %}"
    )
    card = Card.from_facts(facts, template=template)
    measured = Card.parse(card.text).with_results({"accuracy": 0.5})
    assert [one.part for one in measured.conflicts] == ["evaluation"] and "eval_loss=0.5;\n" in measured.text
    again = Card.from_facts(facts, existing=measured, template=template)
    assert "accuracy=0.5;eval_loss=0.5;" in again.text and not again.conflicts


def test_a_broken_template_may_have_any_name(facts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("card.md.jinja").write_text("{% block usage %}{{ none.such }}{% endblock %}")
    with pytest.raises(InvalidInput, match=r"card\.md\.jinja, line 1"):
        Card.from_facts(facts, template="card.md.jinja")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('{% extends "card.md.jinja" %}\n\n{% block usage %}{% if %}{% endblock %}', "line 3"),
        ('{% extends "card.md.jinja" %}\n{% block usage %}\n\n{{ facts.nmae }}{% endblock %}', "line 4"),
        ('{% extends "card.md.jinja" %}\nwords', "line 2: what stands outside of a block"),
        ('{% extends "other.jinja" %}\n', "other.jinja"),
        ("{% block a %}{{ facts.__class__.__mro__ }}{% endblock %}", "unsafe"),
        ("{% block a %}{{ facts.name.encode() + 1 }}{% endblock %}", "line 1"),
        ("{% block a %}{% include '/etc/passwd' %}{% endblock %}", "passwd"),
    ],
)
def test_a_broken_template_is_named_with_its_line(facts, tmp_path, source, said):
    template = tmp_path / "mine.jinja"
    template.write_text(source)
    with pytest.raises(InvalidInput, match=said) as caught:
        Card.from_facts(facts, template=template)
    assert str(template) in caught.value.message


def test_a_template_that_is_none(facts, tmp_path):
    with pytest.raises(NotFound):
        Card.from_facts(facts, template=tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(InvalidInput):
        Card.from_facts(Facts(name="x"), template=tmp_path / "bytes")
