"""Input that no honest client sends: always a clear 4xx, never a 500, and nothing of it is kept."""

from __future__ import annotations

import base64
import json
import socket
from urllib.parse import quote, urlsplit

import pytest
from hubs import TOKEN, ask, ndjson, stored, wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.hub.server import HubServer

_HOSTILE = [
    "../up", "a/../../up", "/etc/passwd", "a//b", "a/", ".", "..", "./a", "a/.", "nul\0l", "back\\slash", "..\\up",
    ".git/config", "a/.GIT/hooks/x", ".git", ".Git ", ".git.", "git~1/x", ".g\u200cit/config", ".git::$DATA",
    "x" * 256, "a/" * 70 + "b", "p" * 4096, "new\nline", "tab\there", "\x7f", "", "\ud800",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def repo(server: HubServer) -> str:
    assert ask(server.url, "POST", "/api/repos/create", {"name": "target"}).status == 200
    return "me/target"


@pytest.mark.parametrize("path", _HOSTILE)
def test_hostile_paths_are_refused_and_nothing_is_written(server: HubServer, path: str) -> None:
    before = stored(server._folder)
    operations = [
        ("file", {"path": path, "content": "YQ==", "encoding": "base64"}),
        ("lfsFile", {"path": path, "algo": "sha256", "oid": "0" * 64, "size": 1}),
        ("deletedFile", {"path": path}),
    ]
    for operation in operations:
        answer = ask(server.url, "POST", "/api/models/me/target/commit/main", ndjson(operation))
        assert answer.status == 400, answer.body
        assert answer.headers["x-error-message"]
        assert answer.json()["error"]
    files = {"files": [{"path": path, "size": 1, "sample": ""}]}
    assert ask(server.url, "POST", "/api/models/me/target/preupload/main", files).status == 400
    quoted = quote(path, safe="", errors="surrogatepass")
    assert ask(server.url, "GET", f"/me/target/resolve/main/{quoted}").status == 400
    if path.strip("/"):
        assert ask(server.url, "GET", f"/api/models/me/target/tree/main/{quoted}").status in {400, 404}
    assert stored(server._folder) == before


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        ".hidden",
        "a/b/c",
        "a b",
        "x" * 97,
        "a--b",
        "end.git",
        "-a",
        "a-",
        "é",
        "a\0",
        "a\n",
        "%2e%2e",
        5,
        None,
    ],
)
def test_hostile_repository_names_are_refused(server: HubServer, name: object) -> None:
    assert ask(server.url, "POST", "/api/repos/create", {"name": name}).status == 400
    if isinstance(name, str) and name:
        assert ask(server.url, "POST", "/api/repos/create", {"name": "ok", "organization": name}).status == 400
        move = {"fromRepo": "me/target", "toRepo": f"me/{name}", "type": "model"}
        assert ask(server.url, "POST", "/api/repos/move", move).status == 400


def test_reserved_namespaces_are_refused(server: HubServer) -> None:
    for name in ("datasets", "openapi.json", "cas-x"):
        answer = ask(server.url, "POST", "/api/repos/create", {"name": "x", "organization": name})
        assert answer.status == 400 and "reserved" in answer.headers["x-error-message"]


@pytest.mark.parametrize(
    "name", ["..", "a..b", "a b", "-x", "a~1", "refs/heads/x", "HEAD", "0" * 40, "a.lock", "x" * 251, "x" * 300]
)
def test_hostile_branch_and_tag_names_are_refused(server: HubServer, name: str) -> None:
    quoted = quote(name, safe="")
    assert ask(server.url, "POST", f"/api/models/me/target/branch/{quoted}", {}).status == 400
    assert ask(server.url, "POST", "/api/models/me/target/tag/main", {"tag": name}).status == 400
    assert ask(server.url, "POST", f"/api/models/me/target/commit/{quoted}", ndjson()).status in {400, 404}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\n\n", b"not json", b"[1, 2]", b'{"key": "header"}', b'{"key": 5, "value": {}}', b"\xff\xfe",
        b'{"key": "file", "value": {"path": "a", "content": "YQ==", "encoding": "base64"}}',  # no header
        ndjson(("file", {"path": "a", "content": "not base64!", "encoding": "base64"})),
        ndjson(("file", {"path": "a", "content": "YQ\u00e9=", "encoding": "base64"})),
        ndjson(("file", {"path": "a"})),
        ndjson(("file", {"path": "a", "content": 5})),
        ndjson(("unknown", {"path": "a"})),
        ndjson(("lfsFile", {"path": "a", "oid": "../../x", "size": 1}))[:-1],
        ndjson(header={"summary": "x", "parentCommit": "zz"}),
        ndjson(header={"summary": "x\0y"}),
        ndjson(header={"summary": ["x"]}),
        b"[" * 100_000,
        b'{"key": "header", "value": ' + b'{"a":' * 50_000 + b"}" * 50_000,
    ],
)  # fmt: skip
def test_broken_commits_are_refused(server: HubServer, body: bytes) -> None:
    answer = ask(server.url, "POST", "/api/models/me/target/commit/main", body)
    assert answer.status in {400, 422}
    history = ask(server.url, "GET", "/api/models/me/target/commits/main").json()
    assert [commit["title"] for commit in history] == ["initial commit"]


def test_a_file_too_large_for_a_commit_is_refused(server: HubServer) -> None:
    content = base64.b64encode(bytes(10 * 1024 * 1024 + 1)).decode()
    body = ndjson(("file", {"path": "a.txt", "content": content, "encoding": "base64"}))
    assert ask(server.url, "POST", "/api/models/me/target/commit/main", body).status == 413
    assert ask(server.url, "POST", "/api/models/me/target/commit/main", body + b" " * 5_000_000).status == 413


def test_a_file_is_not_silently_replaced_by_a_folder_or_the_other_way_round(server: HubServer) -> None:
    ask(server.url, "POST", "/api/repos/create", {"name": "shape"})
    url = "/api/models/me/shape/commit/main"

    def put(path: str) -> tuple[str, dict[str, str]]:
        return ("file", {"path": path, "content": "YQ==", "encoding": "base64"})

    assert ask(server.url, "POST", url, ndjson(put("a"), put("d/e"))).status == 200
    assert ask(server.url, "POST", url, ndjson(put("a/b"))).status == 400
    assert ask(server.url, "POST", url, ndjson(put("d"))).status == 400
    assert ask(server.url, "POST", url, ndjson(("deletedFile", {"path": "d"}))).status == 404
    gone = ask(server.url, "POST", url, ndjson(("deletedFile", {"path": "zz"})))
    assert (gone.status, gone.headers["x-error-code"]) == (404, "EntryNotFound")
    assert gone.json()["error"].startswith("A file with this name doesn't exist")
    assert ask(server.url, "POST", url, ndjson(("deletedFolder", {"path": "d"}), put("d"))).status == 200


def test_names_that_differ_in_case_alone_are_kept_apart(server: HubServer) -> None:
    assert ask(server.url, "POST", "/api/repos/create", {"name": "Case"}).status == 200
    assert ask(server.url, "POST", "/api/repos/create", {"name": "case"}).status == 409
    files = {"a.txt": "lower", "A.txt": "upper", "d/x": "lower", "D/x": "upper"}
    operations = [("file", {"path": path, "content": content}) for path, content in files.items()]
    assert ask(server.url, "POST", "/api/models/me/case/commit/main", ndjson(*operations)).status == 200
    assert ask(server.url, "POST", "/api/models/me/case/branch/Main", {"startingPoint": "main"}).status == 200
    gone = ndjson(("deletedFile", {"path": "A.txt"}))
    assert ask(server.url, "POST", "/api/models/me/case/commit/Main", gone).status == 200
    for path, content in files.items():
        assert ask(server.url, "GET", f"/me/case/resolve/main/{path}").body == content.encode()
    assert ask(server.url, "GET", "/me/case/resolve/Main/A.txt").status == 404
    assert ask(server.url, "GET", "/me/case/resolve/Main/a.txt").body == b"lower"


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"name": "\\ud800"}'])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/repos/create"),
        ("DELETE", "/api/repos/delete"),
        ("POST", "/api/repos/move"),
        ("PUT", "/api/models/me/target/settings"),
        ("POST", "/api/models/me/target/preupload/main"),
        ("POST", "/api/models/me/target/tag/main"),
        ("POST", "/me/target.git/info/lfs/objects/batch"),
        ("POST", "/api/validate-yaml"),
    ],
)
def test_broken_json_is_refused(server: HubServer, method: str, path: str, body: bytes) -> None:
    settled = {200} if (path.endswith("settings") and b"name" in body) else {400, 404}
    assert ask(server.url, method, path, body).status in settled


def test_bodies_are_bounded_before_they_are_read(server: HubServer) -> None:
    answer = ask(server.url, "POST", "/api/repos/create", b" " * (5 * 1024 * 1024))
    assert answer.status == 413
    huge = ask(server.url, "POST", "/api/models/me/target/commit/main", b"", Content_Length=str(1 << 40))
    assert huge.status == 413


def test_a_batch_of_too_many_objects_is_refused(server: HubServer) -> None:
    body = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1}] * 1001}
    answer = ask(server.url, "POST", "/me/target.git/info/lfs/objects/batch", body)
    assert (answer.status, answer.json()["error"]) == (413, "A batch may have at most 1000 objects.")


def test_a_body_that_breaks_off_leaves_nothing(server: HubServer) -> None:
    before = stored(server._folder)
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
        head = (
            "POST /api/models/me/target/commit/main HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: 100000\r\n\r\n"
        )
        raw.sendall(head.encode() + b'{"key": "header", "value": {"summary": "cut off"}}\n')
        wait_until(lambda: stored(server._folder) > before)  # it is being taken in
    wait_until(lambda: stored(server._folder) == before)
    assert ask(server.url, "GET", "/api/models/me/target").status == 200
    history = ask(server.url, "GET", "/api/models/me/target/commits/main").json()
    assert [commit["title"] for commit in history] == ["initial commit"]


@pytest.mark.parametrize("wanted", ["bytes=5-2", "bytes=a-b", "bytes=-", "bytes=0-0,5-9", "lines=1-2"])
def test_odd_ranges_get_the_whole_file(server: HubServer, wanted: str) -> None:
    whole = ask(server.url, "GET", "/me/target/resolve/main/.gitattributes")
    answer = ask(server.url, "GET", "/me/target/resolve/main/.gitattributes", Range=wanted)
    assert (answer.status, answer.body) == (200, whole.body)


def test_ranges_and_validators(server: HubServer) -> None:
    path = "/me/target/resolve/main/.gitattributes"
    whole = ask(server.url, "GET", path)
    size, etag = len(whole.body), whole.headers["etag"]
    assert ask(server.url, "HEAD", path).headers["content-length"] == str(size)
    first = ask(server.url, "GET", path, Range="bytes=0-0")
    assert (first.status, first.headers["content-range"]) == (206, f"bytes 0-0/{size}")
    assert ask(server.url, "GET", path, Range="bytes=-5").body == whole.body[-5:]
    assert ask(server.url, "GET", path, Range=f"bytes=10-{size * 2}").body == whole.body[10:]
    past = ask(server.url, "GET", path, Range=f"bytes={size}-")
    assert (past.status, past.headers["content-range"]) == (416, f"bytes */{size}")
    assert ask(server.url, "GET", path, Range="bytes=0-0", If_Range='"other"').status == 200
    assert ask(server.url, "GET", path, If_None_Match=etag).status == 304
    assert ask(server.url, "GET", path, If_None_Match='"other"').status == 200


def test_what_people_upload_is_never_run_as_a_page(server: HubServer) -> None:
    page = base64.b64encode(b"<script>alert(1)</script>").decode()
    ask(server.url, "POST", "/api/repos/create", {"name": "page"})
    body = ndjson(("file", {"path": "x.html", "content": page, "encoding": "base64"}))
    assert ask(server.url, "POST", "/api/models/me/page/commit/main", body).status == 200
    headers = ask(server.url, "GET", "/me/page/resolve/main/x.html").headers
    assert headers["content-type"].startswith("text/plain")
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


@pytest.mark.parametrize("nested", ["- " * 30_000, "[" * 200_000, "{a: " * 50_000, "? " * 50_000])
def test_no_card_is_too_deep_for_the_hub(server: HubServer, nested: str) -> None:
    content = f"---\n{nested}\n---\n"
    report = ask(server.url, "POST", "/api/validate-yaml", {"content": content, "repoType": "model"})
    assert report.status == 400
    assert "nested" in report.json()["errors"][0]["message"]
    ask(server.url, "POST", "/api/repos/create", {"name": "deep"})
    card = {"path": "README.md", "content": base64.b64encode(content.encode()).decode(), "encoding": "base64"}
    assert ask(server.url, "POST", "/api/models/me/deep/commit/main", ndjson(("file", card))).status == 200
    assert ask(server.url, "GET", "/api/models/me/deep").json()["cardData"] is None
    assert ask(server.url, "GET", "/me/deep").status == 200


def test_card_bombs_cost_nothing(server: HubServer) -> None:
    bomb = "---\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )
    report = ask(server.url, "POST", "/api/validate-yaml", {"content": bomb + "---\n", "repoType": "model"})
    assert report.status == 400
    assert "anchors" in report.json()["errors"][0]["message"]
    ask(server.url, "POST", "/api/repos/create", {"name": "bomb"})
    card = {"path": "README.md", "content": base64.b64encode(f"{bomb}---\n".encode()).decode(), "encoding": "base64"}
    assert ask(server.url, "POST", "/api/models/me/bomb/commit/main", ndjson(("file", card))).status == 200
    assert ask(server.url, "GET", "/api/models/me/bomb").json()["cardData"] is None


_PLACES = [
    ("GET", "/api/models/{}/{}"), ("GET", "/api/models/me/target/revision/{}"), ("GET", "/api/{}"),
    ("GET", "/api/models/me/target/tree/{}/{}"), ("GET", "/api/models/me/target/tree/main?recursive={}&expand={}"),
    ("GET", "/api/models/me/target/commits/{}?p={}&limit={}"), ("GET", "/api/models?search={}&limit={}&skip={}"),
    ("GET", "/me/target/resolve/{}/{}"), ("HEAD", "/datasets/me/target/resolve/main/{}"), ("GET", "/{}/resolve/{}"),
    ("POST", "/api/models/me/target/branch/{}"), ("DELETE", "/api/models/me/target/branch/{}"),
    ("POST", "/api/models/me/target/tag/{}"), ("DELETE", "/api/models/me/target/tag/{}"),
    ("POST", "/api/models/me/target/paths-info/{}"), ("POST", "/api/models/me/target/preupload/{}"),
    ("POST", "/api/models/me/target/commit/{}"), ("POST", "/api/models/me/target/super-squash/{}"),
    ("GET", "/api/models/me/target/xet-write-token/{}"), ("PUT", "/api/models/me/target/settings"),
    ("POST", "/me/target.git/info/lfs/objects/{}"), ("POST", "/me/target.git/info/lfs/objects/batch"),
    ("PUT", "/lfs/objects/{}?signature={}"), ("POST", "/cas-{}/v1/xorbs/{}/{}"), ("POST", "/cas-{}/v1/shards"),
    ("POST", "/api/repos/create"), ("POST", "/api/repos/move"), ("POST", "/api/validate-yaml"), ("PATCH", "/{}"),
]  # fmt: skip
_VALUES = st.sampled_from(
    ["main", "me", "target", "refs%2Fheads%2Fmain", "refs%2F", "HEAD", "0" * 40, "", "%2e%2e", "%00", "%ff", "a%2Fb",
     "..", ".gitattributes", ".gitattributes%2Fx", "%F0%9F%A4%97", "-1", "1e9", "99999999999999", "x" * 300, "e30.e30",
     "~", "%"]
)  # fmt: skip
_KEYS = (
    "name organization type private visibility fromRepo toRepo files path size sample objects oid operation hash_algo "
)
_KEYS += "tag message startingPoint paths expand content repoType key value gated gitIgnore gitAttributes"
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("main") | st.just("upload"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS.split()), inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(place=st.sampled_from(_PLACES), values=st.lists(_VALUES, min_size=3, max_size=3), body=st.none() | _JSON)
def test_no_request_makes_it_fail(server: HubServer, place: tuple[str, str], values: list[str], body: object) -> None:
    method, path = place
    sent = None if body is None else json.dumps(body).encode()
    answer = ask(server.url, method, path.format(*values), sent, Content_Type="application/json")
    assert answer.status < 500, answer.body
    assert answer.headers["x-request-id"]
