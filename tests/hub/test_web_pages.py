"""The hub's pages, asked for as a browser does without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from hubs import TOKEN, ask
from pages import commit, create, fill, look, sign_in

from perdure.hub.server import HubServer
from perdure.hub.web import compare, history, talk


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with HubServer(tmp_path_factory.mktemp("hub"), user="me", token=TOKEN) as running:
        fill(running.url)
        yield running.url


class Page(HTMLParser):
    """The text that is seen, and the addresses that are linked to or loaded."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if tag == "a":
            self.links.append(values["href"])
        if tag in {"img", "script", "link"}:
            self.loaded.append(values.get("src") or values["href"])

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(url: str, path: str, *, cookie: str = "", status: int = 200) -> Page:
    answer = look(url, path, cookie=cookie)
    assert answer.status == status, answer.body[:300]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'") and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    return Page(answer.body.decode())


def test_only_browsers_get_pages(url: str) -> None:
    assert b"HF_ENDPOINT=" in ask(url, "GET", "/").body
    assert ask(url, "GET", "/").headers["content-type"].startswith("text/plain")
    assert look(url, "/api/models/me/maths").json()["id"] == "me/maths"
    assert look(url, "/api/models/me/nothing").json()["error"] == "Repository not found"
    assert ask(url, "GET", "/me/maths/resolve/main/nothing").json()["error"].startswith("Entry not found")
    head = look(url, "/me/maths", method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_every_link_of_every_page_leads_somewhere(url: str) -> None:
    """All pages that can be reached from the first, but for most of the 40 models that are alike."""
    seen: set[str] = set()
    waiting = ["/"]
    while waiting:
        address = waiting.pop()
        if address in seen or re.search(r"/run-(?!00)|step-000000[23]00/|/login|step-000000[23]00$", address):
            continue
        seen.add(address)
        if "/resolve/" in address or "/-/static/" in address:
            assert look(url, address).status == 200, address
            continue
        found = page(url, address)
        for link in found.links + found.loaded:
            target = link.partition("#")[0]
            if target.startswith("?"):
                target = address.partition("?")[0] + target
            if target and not target.startswith("https://example.org") and "://img." not in target:
                assert target.startswith("/"), (address, link)
                waiting.append(target)
    kinds = {re.sub(r"^/(datasets/)?me/[^/]+/?", "", address).partition("/")[0] for address in seen}
    assert kinds >= {"tree", "blob", "commits", "commit", "refs", "checkpoints", "resolve"}
    assert len(seen) > 60


def test_addresses_that_clients_print_are_pages(url: str) -> None:
    sha = ask(url, "GET", "/api/models/me/maths").json()["sha"]
    for path in (
        "/me/maths",
        "/me/maths/tree/main-step-000000100",
        "/me/maths/tree/refs%2Ftags%2Fv1.0",
        f"/me/maths/commit/{sha}",
        "/me/maths/blob/main/README.md",
        "/datasets/me/gsm",
        "/datasets/me/gsm/tree/main",
        "/datasets/me/gsm/blob/main/train.jsonl",
    ):
        page(url, path)


def test_lists_are_searched_sorted_and_paged(url: str) -> None:
    def names(query: str) -> list[str]:
        return re.findall(r'class="name" href="/([^"]+)"', look(url, f"/models{query}").body.decode())

    every = names("?sort=name") + names("?sort=name&p=1")
    assert every == sorted(["me/maths", *(f"me/run-{n:02d}" for n in range(40))])
    assert len(names("?sort=name")) == 30 and names("?sort=name&p=2") == []
    assert names("?search=run%200&sort=name") == [f"me/run-{n:02d}" for n in range(40) if "0" in f"{n:02d}"]
    assert names("?search=GSM8K") == ["me/maths"], "tags are searched, too"
    assert names("?search=%3Cb%3E") == []
    assert names("?sort=created")[0] == "me/run-39"
    assert "/me?kind=model&search=run&p=1" in page(url, "/me?search=run&kind=model").links
    assert "1 dataset" in page(url, "/me?kind=dataset").text
    assert "/datasets/me/gsm" in page(url, "/datasets?search=gsm").links
    assert "/datasets/me/gsm" not in page(url, "/datasets?search=maths").links
    page(url, "/models?p=x", status=400)
    page(url, "/nobody", status=404)


def test_the_card_is_laid_out_with_its_facts(url: str) -> None:
    html = look(url, "/me/maths").body.decode()
    assert '<h2 id="card-usage">Usage</h2>' in html and 'href="#card-usage"' in html
    assert 'href="/me/maths/blob/main/train/run.py"' in html
    assert 'src="/me/maths/resolve/main/plots/loss.png"' in html
    assert '<td align="right"><strong>42.1</strong></td>' in html
    assert '<a href="https://img.example.org/badge.svg" rel="' in html, "a picture of another server's is a link"
    text = page(url, "/me/maths").text
    for fact in ("license apache-2.0", "base model Qwen/Qwen3-0.6B", "19.2K 19,178", "GSM8K · exact match 0.4213"):
        assert fact in text
    assert "model-index" not in text and "pipeline_tag" not in text
    assert f"export HF_ENDPOINT={url} hf download me/maths" in text
    assert f"git clone {url}/me/maths" in text
    other = page(url, "/me/maths?revision=main-step-000000100").text
    assert "hf download me/maths --revision main-step-000000100" in other
    assert 'repo_type="dataset"' in page(url, "/datasets/me/gsm").text
    assert "HF_TOKEN" not in text


def test_commands_for_what_is_not_open_take_a_token(url: str) -> None:
    create(url, "asked-for")
    assert ask(url, "PUT", "/api/models/me/asked-for/settings", {"gated": "auto"}).status == 200
    cookie = sign_in(url).headers["set-cookie"].partition(";")[0]
    for name in ("secret", "asked-for"):
        text = page(url, f"/me/{name}", cookie=cookie).text
        assert f"export HF_ENDPOINT={url} HF_TOKEN=hf_... hf download me/{name}" in text
        assert 'token="hf_..."' in text and "password is your token" in text


def test_a_broken_or_long_card_hides_nothing(url: str) -> None:
    create(url, "run-broken")
    commit(url, "me/run-broken", {"README.md": b"---\na: [\n---\n# Still here\n"})
    text = page(url, "/me/run-broken").text
    assert "The card's metadata cannot be read" in text and "Still here" in text
    commit(url, "me/run-broken", {"README.md": b"# Long\n" + b"word *word*\n" * 20_000})
    text = page(url, "/me/run-broken").text
    assert "too long to be laid out" in text and "word *word*" in text
    assert "No card yet" in page(url, "/me/run-01").text


def test_files_are_shown_as_what_they_are(url: str) -> None:
    code = look(url, "/me/maths/blob/main/train/run.py").body.decode()
    assert '<tr id="L41"><td class="no"><a href="#L41"' in code and "<pre>x = 39</pre>" in code
    assert "<em>me</em>" in look(url, "/me/maths/blob/main/notes.md").body.decode()
    assert "<pre>Read *me*.</pre>" in look(url, "/me/maths/blob/main/notes.md?plain=1").body.decode()
    assert (
        '<img src="/me/maths/resolve/main/plots/loss.png"'
        in look(url, "/me/maths/blob/main/plots/loss.png").body.decode()
    )
    assert ask(url, "GET", "/me/maths/resolve/main/plots/loss.png").headers["content-type"] == "image/png"
    moved = look(url, "/me/maths/tree/main/config.json")
    assert (moved.status, moved.headers["location"]) == (307, "/me/maths/blob/main/config.json")
    assert "Entry not found: nothing" in page(url, "/me/maths/blob/main/nothing", status=404).text


def test_tensors_are_listed_from_the_header(url: str) -> None:
    at = "/me/maths/blob/main/model.safetensors"
    first = page(url, at).text
    assert "Parameters 19.2K 19,178" in first and "Tensors 600" in first and "F32 10" in first
    assert "lm_head.bias F32 10 10 40 B" in first
    assert first.count("4 × 8") == 499 and page(url, f"{at}?p=1").text.count("4 × 8") == 100
    assert page(url, f"{at}?search=layers.59").text.count("4 × 8") == 10
    commit(url, "me/run-00", {"broken.safetensors": b"\xff" * 100})
    assert "No view for this file" in page(url, "/me/run-00/blob/main/broken.safetensors").text


def test_history_of_a_repository_and_of_one_file(url: str) -> None:
    every = page(url, "/me/maths/commits/main").text
    assert every.index("Numpy is enough") < every.index("Upload the model") < every.index("initial commit")
    one = page(url, "/me/maths/commits/main/config.json").text
    assert "Upload the model" in one and "Numpy is enough" not in one
    page(url, "/me/maths/commits/main/nothing", status=404)
    page(url, "/me/maths/commits/nothing", status=404)
    for number in range(51):
        commit(url, "me/run-02", {"log.txt": str(number).encode()}, f"change {number}")
    assert "?p=1" in page(url, "/me/run-02/commits/main").links
    assert "initial commit" in page(url, "/me/run-02/commits/main?p=1").text


def test_a_commit_shows_what_changed(url: str) -> None:
    html = look(url, "/me/maths/commit/main").body.decode()
    assert re.search(r'<tr class="minus">.*?import torch', html, re.DOTALL)
    assert re.search(r'<tr class="plus">.*?import numpy', html, re.DOTALL)
    text = page(url, "/me/maths/commit/main").text
    assert "37 unchanged lines" not in text and "x = 2" in text and "x = 3" not in text
    assert "modified train/run.py +1 −1" in text and "added notes.md +3 −0" in text
    first = page(url, f"/me/maths/commit/{_first(url)}").text
    assert "first commit" in first and "added .gitattributes" in first
    large = commit(url, "me/run-03", {f"f{n:03d}.txt": b"line\n" * 400 for n in range(120)}, "Much")
    html = look(url, f"/me/run-03/commit/{large}").body.decode()
    assert "More files were changed than a page can show" in html and html.count("<tr class=") <= 3400


def _first(url: str) -> str:
    return str(ask(url, "GET", "/api/models/me/maths/commits/main").json()[-1]["id"])


def test_branches_tags_and_their_menu(url: str) -> None:
    refs = page(url, "/me/maths/refs")
    assert "7 branches, 1 tag" in refs.text and "v1.0 tag" in refs.text
    links = {unquote(link) for link in page(url, "/me/maths/tree/main").links}
    assert {"/me/maths/tree/warm-step-000000300", "/me/maths/tree/refs/tags/v1.0"} <= links


def test_checkpoints_are_compared(url: str) -> None:
    html = look(url, "/me/maths/checkpoints").body.decode()
    (chart,) = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert 'aria-label="eval_loss over steps, from 0.25 to 1"' in chart
    assert chart.count("<polyline") == 2 and chart.count("<circle") == 7, "two runs, and the tag"
    assert "main-step-000000100: 1" in chart
    text = page(url, "/me/maths/checkpoints").text
    assert "v1.0 tag 200 0.4213 0.5 nan" in text
    assert "Checkpoints appear here" in page(url, "/me/run-00/checkpoints").text


def test_a_pull_request_has_the_page_that_clients_print(url: str) -> None:
    assert "Say what it is for draft pull request 1" in page(url, "/me/maths/discussions").text
    html = look(url, "/me/maths/discussions/1").body.decode()
    assert "<em>the card</em>" in html and "For sums." in html and "Add a note" in html
    page(url, "/me/maths/discussions/2", status=404)
    assert "No discussions" in page(url, "/me/run-01/discussions").text


def test_a_moved_repository_is_found_by_its_old_address(url: str) -> None:
    ask(url, "POST", "/api/repos/move", {"fromRepo": "me/run-39", "toRepo": "me/moved", "type": "model"})
    answer = look(url, "/me/run-39/tree/main")
    assert (answer.status, answer.headers["location"]) == (307, "/me/moved/tree/main")


def test_static_files_may_be_kept(url: str) -> None:
    address = next(link for link in page(url, "/").loaded if "style.css" in link)
    answer = look(url, address)
    assert "immutable" in answer.headers["cache-control"] and answer.headers["content-type"].startswith("text/css")
    again = ask(url, "GET", address, token=None, If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert look(url, "/-/static/..%2Fpage.py").status == 404


def test_what_a_page_leaves_out_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, bound in (
        (talk, "_EVENTS", 1), (talk, "_COMMITS", 1), (history, "_DEPTH", 2), (history, "_PAGE", 1),
        (compare, "_CHARTS", 1), (compare, "_SERIES", 1),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, bound)
    create(url, "long")
    opened = {"title": "a change", "description": "first words", "pullRequest": True}
    assert ask(url, "POST", "/api/models/me/long/discussions", opened).status == 200
    for i in range(3):
        commit(url, "me/long", {f"{i}.txt": b"x"}, revision="refs/pr/1")
        commit(url, "me/long", {f"{i}.md": b"x"})
        assert ask(url, "POST", "/api/models/me/long/discussions/1/comment", {"comment": "more"}).status == 200
    text = page(url, "/me/long/discussions/1").text
    assert "3 later comments and changes are not shown" in text
    assert "3 commits for main" in text and "2 later commits are not shown" in text
    assert "not shown" not in page(url, "/me/long/commits/main").text
    assert "Pages show the newest 2 commits" in page(url, "/me/long/commits/main?p=1").text
    assert "have no line in a chart" in page(url, "/me/maths/checkpoints").text
