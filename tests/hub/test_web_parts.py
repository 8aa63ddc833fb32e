"""The pages' pure parts: differences, metrics, plots and cards."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.hub.repos import GitRepos
from perdure.hub.web import chart, diff, markdown, text
from perdure.hub.web.links import Links
from perdure.hub.web.metrics import of

LINKS = Links(base="/me/m")


def card(source: str, folder: str = "") -> str:
    return str(markdown.render(source, links=LINKS, revision="main", folder=folder)).strip()


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_a_difference_explains_how_one_text_became_the_other(before: list[str], after: list[str]) -> None:
    found = diff.compare("\n".join(before), "\n".join(after))
    assert found.removed == sum(line.kind == "-" for line in found.lines)
    assert found.added == sum(line.kind == "+" for line in found.lines)
    assert len(after) - len(before) == found.added - found.removed
    for line in found.lines:
        assert line.old is None or line.kind not in " -" or before[line.old - 1] == line.text
        assert line.new is None or line.kind not in " +" or after[line.new - 1] == line.text
    gone = {line.old for line in found.lines if line.kind == "-"}
    come = {line.new for line in found.lines if line.kind == "+"}
    kept = [line for number, line in enumerate(before, 1) if number not in gone]
    assert kept == [line for number, line in enumerate(after, 1) if number not in come]


def test_a_difference_is_bounded() -> None:
    lines = [str(number) for number in range(3000)]
    found = diff.compare("\n".join(lines), "\n".join(reversed(lines)))
    assert (len(found.lines), found.cut) == (diff.LINES, True)
    assert found.added <= 3000
    long = diff.compare("a" * 100_000, "b" * 100_000)
    assert all(len(line.text) <= 2000 for line in long.lines)


def test_a_difference_in_line_ends_alone_is_said() -> None:
    assert [line.text for line in diff.compare("a\nb\n", "a\r\nb\r\n").lines] == ["Only the ends of lines changed."]


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(), st.text(max_size=3)), max_size=20))
def test_every_point_of_a_plot_is_inside_it(samples: list[tuple[float, float, str]]) -> None:
    made = chart.plot("m", {"run": samples})
    if made is None:
        assert len({value for _, value, _ in samples if math.isfinite(value)}) < 2
        return
    for _, points in made.series:
        assert [point.x for point in points] == sorted(point.x for point in points)
        assert all(made.left <= point.x <= made.right and made.top <= point.y <= made.bottom for point in points)


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("[a](docs/x.md)", 'href="/me/m/blob/main/sub/docs/x.md"'),
        ("[a](../x.md)", 'href="/me/m/blob/main/x.md"'),
        ("[a](x.md#part)", 'href="/me/m/blob/main/sub/x.md"'),
        ("[a](/datasets/me/d)", 'href="/datasets/me/d"'),
        ("[a](#Some%20Part)", 'href="#card-Some%20Part"'),
        ("![a](<a b.png>)", 'src="/me/m/resolve/main/sub/a%20b.png"'),
        ('<img src="p.png" width="40">', 'src="/me/m/resolve/main/sub/p.png" width="40"'),
        ("<a@b.org>", 'href="mailto:a@b.org"'),
        ("![a & b](http://x.org/p?a=1&b)", '<a href="http://x.org/p?a=1&amp;b"'),
        ('<p>\n<IMG alt="a" width=3\n  src="http://x.org/p?a=1&amp;b"/></p>', '<a href="http://x.org/p?a=1&amp;b"'),
        ("one <img src=http://x.org/p alt='\"a\"'> word", '>"a"</a> word'),
        ("one <img src='https://x.org/p'> word", ">image</a> word"),
    ],
)
def test_addresses_in_a_document_count_from_its_folder(source: str, html: str) -> None:
    assert html in card(source, folder="sub")


@pytest.mark.parametrize("source", ["[a](../../x)", "![a](../../x.png)", "[a](//evil)", "[a](ftp://x)", "[a](x%00y)"])
def test_addresses_that_lead_out_are_left_out(source: str) -> None:
    assert "href" not in card(source, folder="sub") and "src" not in card(source, folder="sub")


def test_headings_get_ids_of_their_own() -> None:
    made = card("# A b!\n\n# A b\n\n## Überschrift\n")
    assert 'id="card-a-b"' in made and 'id="card-a-b-1"' in made and 'id="card-überschrift"' in made


@pytest.mark.parametrize(
    "pattern", ["[", "*a **b ", "<div>", "![a](", "a\n-\n", "> a\na\n", "|a", "`a", "<!--", "[\n", "<img "]
)
def test_the_worst_documents_are_still_rendered(pattern: str) -> None:
    source = pattern * (20_000 // len(pattern))
    assert len(card(source)) < 40 * len(source)


_ROW = "|" + "a|" * 20 + "\n"
_WIDE = "|" + "a|" * 300 + "\n", "|" + "-|" * 300 + "\n"


@pytest.mark.parametrize(
    ("source", "renders"),
    [
        ("[a](b) " * 3000 + "\n\n" + _ROW + "|" + "-|" * 20 + "\n" + _ROW * 300, True),
        ("a" * markdown.LONGEST, True),
        ("a" * (markdown.LONGEST + 1), False),
        ("[" * 20_000, False),
        ("".join(_WIDE) + "a\n" * 300, False),
        ("> " + "> ".join(_WIDE) + "> a\n" * 300, False),
    ],
    ids=["an ordinary one", "a long one", "too long", "brackets", "a short table of many cells", "one in a quote"],
)
def test_documents_that_would_take_long_are_shown_as_text(source: str, renders: bool) -> None:
    assert markdown.renders(source) is renders


@given(st.binary(max_size=60))
def test_text_is_told_from_what_is_not(data: bytes) -> None:
    found = text.decode(data)
    assert found is None or (found.encode() == data and "\0" not in found)


def test_moments_that_no_calendar_has() -> None:
    assert text.moment(1e30) == "at an impossible time" and text.moment(1e30, machine=True) == ""


@pytest.mark.parametrize(
    ("files", "metrics", "step"),
    [
        (
            {"perdure.json": {"step": 7, "metrics": {"loss": 1, "bad": "x", "nan": "nan"}}},
            {"loss": 1.0, "nan": math.nan},
            7,
        ),
        (
            {
                "trainer_state.json": {
                    "global_step": 9,
                    "log_history": [
                        {"loss": 3, "step": 1},
                        {"eval_loss": 2, "eval_runtime": 5},
                        {"loss": 1, "step": 9},
                    ],
                }
            },
            {"loss": 1.0, "eval_loss": 2.0},
            9,
        ),
        ({"all_results.json": {"eval_f1": 0.5, "epoch": 3, "train_samples_per_second": 4}}, {"eval_f1": 0.5}, None),
        (
            {"perdure.json": {"metrics": {"f1": 1}}, "all_results.json": {"f1": 2, "em": 3}},
            {"f1": 1.0, "em": 3.0},
            None,
        ),
        ({"perdure.json": [1], "trainer_state.json": {"log_history": {"a": 1}, "global_step": True}}, {}, None),
        ({"perdure.json": {"metrics": {"big": 10**400}, "step": -1}}, {}, None),
    ],
)
def test_metrics_are_read_from_what_a_revision_holds(
    tmp_path: Path, files: dict[str, object], metrics: dict[str, float], step: int | None
) -> None:
    (tmp_path / "repos").mkdir()
    repos = GitRepos(tmp_path / "repos", tmp_path)
    repos.create("r", {name: json.dumps(value).encode() for name, value in files.items()}, "me")
    with repos.open("r") as git:
        measured = of(git, git.resolve("main"))
    assert {name: str(value) for name, value in measured.metrics.items()} == {n: str(v) for n, v in metrics.items()}
    assert measured.step == step
