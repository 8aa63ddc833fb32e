"""Every address that clients use, for models and for datasets; none is left out. What is told there, others test."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hubs import Answer, ask, ndjson
from starlette.routing import Route

from perdure.hub import app
from perdure.hub.server import HubServer

ROUTES = app._routes()
DATA = b"weights" * 1000
OID = hashlib.sha256(DATA).hexdigest()


class Asked:
    """Asks a hub about one repository, and notes which routes answered."""

    def __init__(self, url: str, kind: str) -> None:
        self.url, self.kind, self.name = url, kind, f"rows-{kind}"
        self.api = f"/api/{kind}s/me/{self.name}"
        self.repo = f"{'datasets/' if kind == 'dataset' else ''}me/{self.name}"
        self.lfs = f"/{self.repo}.git/info/lfs"
        self.routes: set[str] = set()

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200, **headers: str) -> Answer:
        answer = ask(self.url, method, path, body, **headers)
        assert answer.status == status, (method, path, answer.body)
        assert answer.headers["x-request-id"]
        bare = path.partition("?")[0]
        found = (route for route in ROUTES if route.path_regex.match(bare) and method in (route.methods or ()))
        self.routes.add(_name(method, next(found).path))
        return answer


def _name(method: str, path: str) -> str:
    return f"{'GET' if method == 'HEAD' else method} {path}"


def _is_row(route: Route, kind: str) -> bool:
    """Whether an address is for clients, not for people, and repositories of that kind have it."""
    if route.path.startswith(("/api/", "/cas-", "/lfs/")):
        return True
    of_datasets = route.path.startswith("/{kind:kind}/")
    ours = any(part in route.path for part in ("/info/", "/git-", "/resolve/", "/raw/"))
    return (ours and of_datasets == (kind == "dataset")) or route.path.startswith("/{name:segment}/resolve")


def _repositories(it: Asked) -> None:
    created = {"name": it.name, "type": it.kind, "private": True}
    assert it("POST", "/api/repos/create", created).json()["url"] == f"{it.url}/{it.repo}"
    assert it("POST", "/api/repos/create", created, status=409).json()["url"] == f"{it.url}/{it.repo}"
    assert it("PUT", f"{it.api}/settings", {"private": False, "gated": "auto"}).json()["gated"] == "auto"
    it("GET", f"{it.api}/auth-check")
    it("GET", f"{it.api}/auth-check/write")
    whoami = it("GET", "/api/whoami-v2").json()
    assert (whoami["type"], whoami["auth"]["type"]) == ("user", "access_token")
    assert it("GET", "/api/users/me/overview").json()["user"] == "me"
    assert {"id": f"me/{it.name}"}.items() <= it("GET", "/api/settings/repositories").json()[0].items()
    for part in ("overview", "members", "settings/repositories"):
        it("GET", f"/api/organizations/nobody/{part}", status=404)
    report = it(
        "POST", "/api/validate-yaml", {"content": "---\nlicense: [[5]]\n---\n", "repoType": it.kind}, status=400
    )
    assert report.json()["errors"][0]["message"]


def _a_commit_of_a_small_and_a_large_file(it: Asked) -> str:
    files = [{"path": path, "sample": "", "size": len(DATA)} for path in ("README.md", "data/w.bin")]
    modes = it("POST", f"{it.api}/preupload/main", {"files": files}).json()["files"]
    assert [(file["uploadMode"], file["shouldIgnore"]) for file in modes] == [("regular", False), ("lfs", False)]
    batch = {"operation": "upload", "objects": [{"oid": OID, "size": len(DATA)}], "hash_algo": "sha_256"}
    actions = it("POST", f"{it.lfs}/objects/batch", batch).json()["objects"][0].get("actions")
    if actions:  # stored once, whichever kind comes first
        it("PUT", actions["upload"]["href"].removeprefix(it.url), DATA, token=None)
    it("POST", f"{it.lfs}/objects/verify", {"oid": OID, "size": len(DATA)})
    link = it("POST", f"{it.lfs}/objects/batch", batch | {"operation": "download"}).json()["objects"][0]["actions"]
    it("GET", link["download"]["href"].removeprefix(it.url), token=None)
    card = base64.b64encode(b"---\nlicense: mit\n---\n").decode()
    operations = (
        ("file", {"path": "README.md", "content": card, "encoding": "base64"}),
        ("lfsFile", {"path": "data/w.bin", "algo": "sha256", "oid": OID, "size": len(DATA)}),
    )
    sha = it("POST", f"{it.api}/commit/main", ndjson(*operations)).json()["commitOid"]
    return str(sha)


def _reading_it(it: Asked, sha: str) -> None:
    assert "license:mit" in it("GET", f"{it.api}?blobs=true").json()["tags"]
    assert it("GET", f"{it.api}/revision/{sha[:40]}").json()["sha"] == sha
    assert it("GET", f"/api/{it.kind}s?author=me&search={it.name}").json()[0]["id"] == f"me/{it.name}"
    assert {entry["path"] for entry in it("GET", f"{it.api}/tree/main?recursive=true").json()} > {"data", "data/w.bin"}
    entry = it("GET", f"{it.api}/tree/main/data?expand=true").json()[0]
    assert (entry["lfs"]["oid"], entry["lastCommit"]["id"]) == (OID, sha)
    it("GET", f"{it.api}/tree/main/absent", status=404)
    form = b"paths=data%2Fw.bin&paths=absent&expand=True"
    known = it("POST", f"{it.api}/paths-info/main", form, Content_Type="application/x-www-form-urlencoded").json()
    assert [row["path"] for row in known] == ["data/w.bin"]
    head = it("HEAD", f"/{it.repo}/resolve/main/data/w.bin").headers
    assert (head["x-repo-commit"], head["etag"], head["content-length"]) == (sha, f'"{OID}"', str(len(DATA)))
    assert it("GET", f"/{it.repo}/resolve/main/data/w.bin", status=206, Range="bytes=0-0").body == DATA[:1]
    it("GET", f"/{it.repo}/resolve/main/data/w.bin", status=304, If_None_Match=f'"{OID}"')
    assert it("GET", f"/{it.repo}/resolve/main/absent", status=404).headers["x-error-code"] == "EntryNotFound"
    assert b"oid sha256" in it("GET", f"/{it.repo}/raw/main/data/w.bin").body


def _history(it: Asked, sha: str) -> None:
    it("POST", f"{it.api}/branch/b%2F1", {"startingPoint": sha})
    it("POST", f"{it.api}/branch/b%2F1", {}, status=409)
    it("POST", f"{it.api}/tag/main", {"tag": "v1", "message": "first"})
    it("POST", f"{it.api}/tag/main", {"tag": "v1"}, status=409)
    refs = it("GET", f"{it.api}/refs?include_prs=1").json()
    assert [[ref["name"] for ref in refs[key]] for key in ("branches", "tags")] == [["b/1", "main"], ["v1"]]
    assert it("GET", f"{it.api}/commits/main").json()[0]["id"] == sha
    it("POST", f"{it.api}/super-squash/b%2F1", {"message": "one"})
    assert [commit["title"] for commit in it("GET", f"{it.api}/commits/b%2F1").json()] == ["one"]
    it("DELETE", f"{it.api}/tag/v1")
    it("DELETE", f"{it.api}/branch/b%2F1")


def _pull_requests_and_discussions(it: Asked) -> None:
    talk = f"{it.api}/discussions"
    opened = it("POST", talk, {"title": "A better card", "description": "", "pullRequest": True}).json()["num"]
    it("POST", f"{it.api}/commit/refs%2Fpr%2F{opened}", ndjson(("file", {"path": "more.txt", "content": "more"})))
    said = it("POST", f"{talk}/{opened}/comment", {"comment": "why?"}).json()["newMessage"]["id"]
    it("POST", f"{talk}/{opened}/comment/{said}/edit", {"content": "because"})
    it("POST", f"{talk}/{opened}/comment/{said}/hide", {})
    it("POST", f"{talk}/{opened}/title", {"title": "The better card"})
    it("POST", f"{talk}/{opened}/status", {"status": "open"})
    assert "+more" in it("GET", f"{talk}/{opened}?diff=1").json()["diff"]
    it("POST", f"{talk}/{opened}/merge", {})
    assert it("GET", talk).json()["discussions"][0]["status"] == "merged"


def _xet_git_and_locks(it: Asked) -> None:
    access = it("GET", f"{it.api}/xet-write-token/main")
    for member, header in (("casUrl", "url"), ("accessToken", "access-token"), ("exp", "token-expiration")):
        assert str(access.json()[member]) == access.headers[f"x-xet-{'cas-' if header == 'url' else ''}{header}"]
    cas = f"{access.json()['casUrl'].removeprefix(it.url)}/v1"
    session = {"token": access.json()["accessToken"]}
    it("GET", f"{cas}/chunks/default-merkledb/{OID}", status=404, **session)
    it("POST", f"{cas}/xorbs/default/{OID}", b"no xorb", status=400, **session)
    it("POST", f"{cas}/shards", b"no shard", status=400, **session)
    it("GET", f"/{it.repo}.git/info/refs?service=git-upload-pack")
    it("POST", f"/{it.repo}.git/git-upload-pack", b"0000")
    assert it("POST", f"/{it.repo}.git/git-receive-pack", b"0000").body == b"0000"
    lock = it("POST", f"{it.lfs}/locks", {"path": "data/w.bin"}, status=201).json()["lock"]["id"]
    it("GET", f"{it.lfs}/locks")
    it("POST", f"{it.lfs}/locks/verify", {})
    it("POST", f"{it.lfs}/locks/verify", {"limit": -1}, status=400)
    it("POST", f"{it.lfs}/locks/{lock}/unlock", {})


def _moving_and_deleting(it: Asked) -> None:
    it("POST", "/api/repos/move", {"fromRepo": f"me/{it.name}", "toRepo": f"me/{it.name}-new", "type": it.kind})
    assert it("GET", it.api, status=307).headers["location"] == f"{it.api}-new"
    it("DELETE", "/api/repos/delete", {"name": f"me/{it.name}-new", "type": it.kind})
    assert it("GET", f"{it.api}-new", status=404).headers["x-error-code"] == "RepoNotFound"


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_every_row(server: HubServer, kind: str) -> None:
    it = Asked(server.url, kind)
    _repositories(it)
    sha = _a_commit_of_a_small_and_a_large_file(it)
    _reading_it(it, sha)
    _history(it, sha)
    _pull_requests_and_discussions(it)
    _xet_git_and_locks(it)
    _moving_and_deleting(it)
    every = {_name(method, route.path) for route in ROUTES for method in route.methods or () if _is_row(route, kind)}
    # names without a namespace: 404
    assert every - it.routes == {"GET /api/{kind:kind}/{name:segment}", "GET /{name:segment}/resolve/{rest:tail}"}
