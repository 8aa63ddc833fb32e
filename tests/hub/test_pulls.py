"""Pull requests and discussions with the real `huggingface_hub`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gits import Git, needs_git
from hubs import TOKEN, Client, ask, ndjson

from perdure.hub import commits, git_push, merging, pulls
from perdure.hub.accounts import Accounts
from perdure.hub.server import HubServer


@pytest.fixture
def repo(server: HubServer, request: pytest.FixtureRequest) -> str:
    name = "me/" + request.node.name.replace("_", "-").split("[")[0][:60]
    assert ask(server.url, "POST", "/api/repos/create", {"name": name, "private": False}).status == 200
    return name


@pytest.fixture
def guest(server: HubServer, tmp_path: Path) -> Client:
    """Somebody else, who may read what is public."""
    hub = server._hub
    assert hub is not None
    accounts, token = Accounts(hub.db), "token-of-the-guest-who-proposes"
    if accounts.user("guest") is None:
        accounts.add_user_with_token("guest", token, admin=False, label="test")
    return Client(server.url, token, tmp_path / "guest")


def _put(server: HubServer, repo: str, revision: str = "main", query: str = "", **files: str) -> dict[str, str]:
    body = ndjson(*(("file", {"path": name, "content": text}) for name, text in files.items()))
    path = f"/api/models/{repo}/commit/{revision.replace('/', '%2F')}{query}"
    answer = ask(server.url, "POST", path, body)
    assert answer.status == 200, answer.body
    return dict(answer.json())


def test_from_create_pr_to_merge(client: Client, repo: str) -> None:
    told = client.run(
        """
        repo = args[0]
        files = [CommitOperationAdd("w.bin", b"w" * 5000), CommitOperationAdd("a.txt", b"one\\n")]
        made = api.create_commit(repo, files,
            commit_message="Add weights", commit_description="because", create_pr=True)
        assert made.pr_num == 1 and made.pr_revision == "refs/pr/1", made
        assert not api.file_exists(repo, "w.bin") and api.file_exists(repo, "w.bin", revision="refs/pr/1")
        api.upload_file(path_or_fileobj=b"one\\ntwo\\n", path_in_repo="a.txt", repo_id=repo, revision="refs/pr/1")
        refs = api.list_repo_refs(repo, include_pull_requests=True)
        assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
        assert api.list_repo_refs(repo).pull_requests is None or api.list_repo_refs(repo).pull_requests == []
        pr = api.get_discussion_details(repo, 1)
        assert (pr.title, pr.status, pr.author, pr.target_branch) == ("Add weights", "open", "me", "refs/heads/main")
        assert pr.conflicting_files == [] and "+two" in pr.diff and pr.is_pull_request
        assert [event.type for event in pr.events] == ["comment", "commit", "commit"], pr.events
        api.merge_pull_request(repo, 1, comment="thanks")
        pr = api.get_discussion_details(repo, 1)
        head = api.list_repo_commits(repo)[0]
        assert pr.status == "merged" and pr.merge_commit_oid == head.commit_id and "+two" in pr.diff
        assert head.title == "Add weights (#1)" and "- Add weights" in head.message
        assert [event.type for event in pr.events].count("commit") == 2
        print(json.dumps(Path(hf_hub_download(repo, "a.txt")).read_text()))
        """,
        repo,
    )
    assert told == "one\ntwo\n"


def test_a_draft_is_filled_opened_talked_about_and_closed(client: Client, repo: str) -> None:
    client.run(
        """
        repo = args[0]
        draft = api.create_pull_request(repo, "A draft", description="words")
        assert draft.status == "draft" and draft.git_reference == "refs/pr/1"
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, revision=draft.git_reference)
        event = api.comment_discussion(repo, 1, "first")
        assert event.content == "first"
        assert api.edit_discussion_comment(repo, 1, event.id, "better").content == "better"
        assert api.hide_discussion_comment(repo, 1, event.id).hidden
        assert api.rename_discussion(repo, 1, "Another title").new_title == "Another title"
        assert api.change_discussion_status(repo, 1, "open").new_status == "open"
        assert api.change_discussion_status(repo, 1, "closed", comment="no").new_status == "closed"
        talk = api.create_discussion(repo, "Just talk")
        assert talk.num == 2 and not talk.is_pull_request and talk.diff is None
        listed = {(d.num, d.title, d.status) for d in api.get_repo_discussions(repo)}
        assert listed == {(1, "Another title", "closed"), (2, "Just talk", "open")}, listed
        only = lambda **by: [d.num for d in api.get_repo_discussions(repo, **by)]
        assert only(discussion_type="pull_request") == [1] and only(discussion_status="open") == [2]
        assert only(author="me") == [2, 1] and only(author="nobody") == []
        """,
        repo,
    )
    assert "closed" in client.fail("api.merge_pull_request(args[0], 1)", repo)
    assert "closed" in client.fail(
        "api.upload_file(path_or_fileobj=b'y', path_in_repo='y', repo_id=args[0], revision='refs/pr/1')", repo
    )


def test_what_both_changed_conflicts_and_nothing_is_lost(server: HubServer, client: Client, repo: str) -> None:
    _put(server, repo, **{"a.txt": "a\n", "b.txt": "b\n", "d/e.txt": "e"})
    _put(server, repo, query="?create_pr=1", **{"a.txt": "theirs\n", "c.txt": "new\n"})
    _put(server, repo, query="?create_pr=1", **{"b.txt": "good\n", "d/f.txt": "f"})
    main = _put(server, repo, **{"a.txt": "ours\n", "d/g.txt": "g"})["commitOid"]
    detail = ask(server.url, "GET", f"/api/models/{repo}/discussions/1").json()
    assert detail["filesWithConflicts"] == ["a.txt"]
    assert "a.txt" in client.fail("api.merge_pull_request(args[0], 1)", repo)
    assert ask(server.url, "GET", f"/api/models/{repo}").json()["sha"] == main
    client.run("api.merge_pull_request(args[0], 2)", repo)
    names = {row["path"] for row in ask(server.url, "GET", f"/api/models/{repo}/tree/main?recursive=1").json()}
    assert {"a.txt", "b.txt", "d/e.txt", "d/f.txt", "d/g.txt"} <= names and "c.txt" not in names
    assert ask(server.url, "GET", f"/{repo}/resolve/main/b.txt").body == b"good\n"
    assert ask(server.url, "GET", f"/{repo}/resolve/main/a.txt").body == b"ours\n"
    _put(server, repo, "refs/pr/1", **{"a.txt": "ours\n"})
    client.run("api.merge_pull_request(args[0], 1)", repo)
    assert ask(server.url, "GET", f"/{repo}/resolve/main/c.txt").body == b"new\n"


def test_a_guest_may_propose_and_nothing_else(server: HubServer, client: Client, guest: Client, repo: str) -> None:
    for script in (
        "api.upload_file(path_or_fileobj=b'x', path_in_repo='x.txt', repo_id=args[0])",
        "api.upload_file(path_or_fileobj=b'x' * 9000, path_in_repo='x.bin', repo_id=args[0])",
        "api.create_branch(args[0], branch='b')",
    ):
        assert "403" in guest.fail(script, repo)
    guest.run(
        """
        files = [CommitOperationAdd("x.bin", b"x" * 9000)]
        made = api.create_commit(args[0], files, commit_message="Mine", create_pr=True)
        api.upload_file(path_or_fileobj=b"y" * 8000, path_in_repo="y.bin", repo_id=args[0], revision=made.pr_revision)
        """,
        repo,
    )
    assert "403" in guest.fail("api.merge_pull_request(args[0], 1)", repo)
    client.run("api.create_pull_request(args[0], 'Of the owner')", repo)
    assert "403" in guest.fail("api.rename_discussion(args[0], 2, 'Taken over')", repo)
    assert "403" in guest.fail(
        "api.upload_file(path_or_fileobj=b'x', path_in_repo='x', repo_id=args[0], revision='refs/pr/2')", repo
    )
    client.run("api.merge_pull_request(args[0], 1)", repo)
    assert ask(server.url, "GET", f"/{repo}/resolve/main/y.bin").body == b"y" * 8000
    reader = client.run(
        "print(json.dumps([d.author for d in HfApi(url, token=False).get_repo_discussions(args[0])]))", repo
    )
    assert reader == ["me", "guest"]


@needs_git
def test_pull_requests_by_git(server: HubServer, client: Client, guest: Client, repo: str, tmp_path: Path) -> None:
    git = Git(server.url, tmp_path / "git", token=guest.token, user="guest")
    git.clone(repo)
    git.commit("clone", "by a guest", a__txt="a")
    assert "403" in git.fail("push", "origin", "main", at="clone")
    assert "403" in git.fail("push", "origin", "main:refs/pr/1", at="clone")
    guest.run("api.create_pull_request(args[0], 'By git')", repo)
    client.run("api.create_pull_request(args[0], 'Not the guest\\'s')", repo)
    git.run("push", "-q", "origin", "main:refs/pr/1", at="clone")
    assert "may not write" in git.fail("push", "origin", "main", at="clone")
    assert "may not write" in git.fail("push", "origin", "main:refs/pr/2", at="clone")
    assert "open it first (HfApi.create_pull_request)" in git.fail("push", "origin", "main:refs/pr/3", at="clone")
    assert "close it instead" in git.fail("push", "origin", ":refs/pr/1", at="clone")
    client.run("api.merge_pull_request(args[0], 1)", repo)
    assert ask(server.url, "GET", f"/{repo}/resolve/main/a.txt").body == b"a"
    git.run("fetch", "-q", "origin", "refs/pr/1", at="clone")


def test_wrong_calls_are_told(server: HubServer, repo: str) -> None:
    base = f"/api/models/{repo}/discussions"
    for num in ("1", "0", "x", "9" * 30):
        assert ask(server.url, "GET", f"{base}/{num}").status == 404
    assert ask(server.url, "POST", base, {"title": "x"}).status == 400
    assert ask(server.url, "POST", base, {"title": "x" * 300}).status == 400
    assert ask(server.url, "POST", base, {"title": "A talk"}).status == 200
    assert ask(server.url, "POST", base, {"title": "A talk"}, token=None).status == 401
    assert ask(server.url, "POST", f"{base}/1/comment", {"comment": " "}).status == 400
    assert ask(server.url, "POST", f"{base}/1/status", {"status": "merged"}).status == 400
    assert ask(server.url, "POST", f"{base}/1/merge", {}).status == 409
    assert ask(server.url, "POST", f"{base}/1/comment/none/edit", {"content": "x"}).status == 404
    body = ndjson(("file", {"path": "a", "content": "x"}))
    assert ask(server.url, "POST", f"/api/models/{repo}/commit/refs%2Fpr%2F1", body).status == 404
    assert ask(server.url, "POST", f"/api/models/{repo}/commit/refs%2Fpr%2F7", body).status == 404
    assert TOKEN not in ask(server.url, "GET", base).body.decode()


def _close(server: HubServer, repo: str, git: Git) -> str:
    answer = ask(server.url, "POST", f"/api/models/{repo}/discussions/1/status", {"status": "closed"})
    return f"{answer.status} {answer.body.decode()}"


def _commit(server: HubServer, repo: str, git: Git) -> str:
    late = ndjson(("file", {"path": "late.txt", "content": "late"}))
    answer = ask(server.url, "POST", f"/api/models/{repo}/commit/refs%2Fpr%2F1", late)
    return f"{answer.status} {answer.body.decode()}"


def _push(server: HubServer, repo: str, git: Git) -> str:
    process = git.start("push", "origin", "HEAD:refs/pr/1", at="clone")
    return f"{process.returncode} {process.communicate(timeout=60)[1]}"


@needs_git
@pytest.mark.parametrize(
    ("act", "stage"),
    [(_close, (pulls, "message_field")), (_commit, (commits, "_parse")), (_push, (git_push, "_take_pack"))],
)
def test_while_a_merge_is_under_way_its_pull_request_stays_as_it_is(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Any, stage: tuple[Any, str]
) -> None:
    """A request that was admitted before a merge, and does its work after it, is told that there was one."""
    (module, name), repo = stage, f"me/merged-before{act.__name__}"
    assert ask(server.url, "POST", "/api/repos/create", {"name": repo}).status == 200
    _put(server, repo, query="?create_pr=1", **{"a.txt": "a"})
    git = Git(server.url, tmp_path / "git")
    git.clone(repo)
    git.run("fetch", "-q", "origin", "refs/pr/1", at="clone")
    git.run("checkout", "-q", "FETCH_HEAD", at="clone")
    git.commit("clone", late__txt="late")
    merging_now, admitted, merged_tree = threading.Event(), threading.Event(), merging.merged_tree
    prepare = getattr(module, name)

    def slow(*args: Any) -> Any:  # a merge that takes until the other request is past its first checks
        merging_now.set()
        assert admitted.wait(60)
        return merged_tree(*args)

    def noted(*args: Any) -> Any:
        done = prepare(*args)
        if merging_now.is_set():
            admitted.set()
        return done

    monkeypatch.setattr(merging, "merged_tree", slow)
    with ThreadPoolExecutor(2) as pool:
        merge = pool.submit(ask, server.url, "POST", f"/api/models/{repo}/discussions/1/merge", {})
        assert merging_now.wait(60)
        monkeypatch.setattr(module, name, noted)
        told = pool.submit(act, server, repo, git).result()
        assert merge.result().status == 200
    assert "merged" in told and not told.startswith("200"), told
    seen = ask(server.url, "GET", f"/api/models/{repo}/discussions/1").json()
    assert seen["status"] == "merged" and seen["changes"]["mergeCommitId"]
    assert ask(server.url, "GET", f"/{repo}/resolve/refs%2Fpr%2F1/late.txt").status == 404


@pytest.mark.parametrize("merged", [True, False])
def test_a_pull_request_outlives_its_branch(server: HubServer, merged: bool) -> None:
    repo = f"me/outlives-{merged}"
    assert ask(server.url, "POST", "/api/repos/create", {"name": repo}).status == 200
    api = f"/api/models/{repo}"
    assert ask(server.url, "POST", f"{api}/branch/side", {}).status == 200
    _put(server, repo, "side", "?create_pr=1", a="one\n")
    if merged:
        assert ask(server.url, "POST", f"{api}/discussions/1/merge", {}).status == 200
    assert ask(server.url, "DELETE", f"{api}/branch/side").status == 200
    told = ask(server.url, "GET", f"{api}/discussions/1?diff=1").json()
    assert told["status"] == ("merged" if merged else "open")
    assert ("+one" in told["diff"]) if merged else (told["diff"] is None)
    page = ask(server.url, "GET", f"/{repo}/discussions/1")
    assert page.status == 200 and (b"is gone" in page.body) != merged
    assert ask(server.url, "POST", f"{api}/discussions/1/merge", {}).status == (409 if merged else 404)
