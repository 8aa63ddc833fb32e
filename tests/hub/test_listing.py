"""Search, filters, order and pages, as `list_models`, `list_datasets` and `list_repo_tree` use them."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from dulwich.objects import ObjectID
from hubs import Client, ask, ndjson

from perdure.hub import limits, weights
from perdure.hub.blobs import ContentStore
from perdure.hub.server import HubServer
from perdure.hub.tree import Entry, Lfs

_CARDS = {
    "model": {
        "me/qwen-sft": "pipeline_tag: text-generation\nlibrary_name: transformers\nbase_model: Qwen/Qwen3\n"
        "license: mit\nlanguage: en\ndatasets: [squad]\nmodel-index: []",
        "me/qwen-lora": "pipeline_tag: text-generation\nlibrary_name: peft\nbase_model: Qwen/Qwen3\n"
        "base_model_relation: adapter\ntags: [sft, chat]",
        "lab/bert": "pipeline_tag: fill-mask\nlibrary_name: transformers\nlicense: apache-2.0",
        "lab/empty": "",
    },
    "dataset": {"me/squad": "language: en\ntask_categories: [question-answering]\nsize_categories: 1K<n<10K"},
}


@pytest.fixture(scope="module", autouse=True)
def repos(server: HubServer) -> None:
    for kind, cards in _CARDS.items():
        for name, card in cards.items():
            org, _, repo = name.partition("/")
            ask(server.url, "POST", "/api/repos/create", {"name": repo, "organization": org, "type": kind})
            content = base64.b64encode(f"---\n{card}\n---\n# {repo}\n".encode()).decode()
            commit = ndjson(("file", {"path": "README.md", "content": content, "encoding": "base64"}))
            assert ask(server.url, "POST", f"/api/{kind}s/{name}/commit/main", commit).status == 200
    ask(server.url, "PUT", "/api/models/lab/bert/settings", {"gated": "auto"})


def test_models_are_found_by_everything_the_client_asks(client: Client) -> None:
    calls: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["lab/empty", "lab/bert", "me/qwen-lora", "me/qwen-sft"]),
        ({"search": "QWEN"}, ["me/qwen-lora", "me/qwen-sft"]),
        ({"search": "qwen lora"}, ["me/qwen-lora"]),
        ({"author": "lab"}, ["lab/empty", "lab/bert"]),
        ({"author": "nobody"}, []),
        ({"filter": "transformers"}, ["lab/bert", "me/qwen-sft"]),
        ({"filter": ["transformers", "license:mit"]}, ["me/qwen-sft"]),
        ({"filter": "base_model:adapter:Qwen/Qwen3"}, ["me/qwen-lora"]),
        ({"filter": "base_model:Qwen/Qwen3", "sort": "created_at"}, ["me/qwen-lora", "me/qwen-sft"]),
        ({"filter": ["sft", "chat"]}, ["me/qwen-lora"]),
        ({"trained_dataset": "squad"}, ["me/qwen-sft"]),
        ({"pipeline_tag": "fill-mask"}, ["lab/bert"]),
        ({"gated": True}, ["lab/bert"]),
        ({"gated": False, "author": "lab"}, ["lab/empty"]),
        ({"num_parameters": "max:6B"}, []),
        ({"inference_provider": "all"}, []),
        ({"sort": "downloads", "limit": 2}, ["lab/empty", "lab/bert"]),
        ({"sort": "trending_score", "limit": 1}, ["lab/empty"]),
    ]
    script = "print(json.dumps([[m.id for m in api.list_models(**kw)] for kw in json.loads(args[0])]))"
    found = client.run(script, json.dumps([kwargs for kwargs, _ in calls]))
    for (kwargs, expected), got in zip(calls, found, strict=True):
        assert got == expected, kwargs


def test_datasets_are_found_by_their_own_tags(client: Client) -> None:
    script = """
        found = [list(api.list_datasets(**kw)) for kw in (
            dict(language="en"), dict(task_categories="question-answering"), dict(size_categories="1K<n<10K"),
            dict(dataset_name="squad"), dict(language="de"), dict(full=True), dict(expand=["sha", "siblings"]))]
        full, named = found[5][0], found[6][0]
        print(json.dumps([[len(f) for f in found], full.card_data.language, [s.rfilename for s in full.siblings],
                          named.sha == full.sha, named.tags]))
    """
    counts, language, files, same, tags = client.run(script)
    assert counts == [1, 1, 1, 1, 0, 1, 1]
    assert (language, same, tags) == ("en", True, None)
    assert files == [".gitattributes", "README.md"]


def test_rows_hold_what_was_asked_for(client: Client) -> None:
    script = """
        brief, full = next(iter(api.list_models(search="sft"))), next(iter(api.list_models(search="sft", full=True)))
        card = next(iter(api.list_models(search="sft", cardData=True)))
        only = next(iter(api.list_models(search="sft", expand=["lastModified", "gguf"])))
        info = api.model_info("me/qwen-sft", expand=["safetensors", "usedStorage", "model-index"])
        print(json.dumps([brief.siblings, len(full.siblings), card.card_data.license, only.last_modified is not None,
                          only.tags, info.used_storage > 0, info.sha, brief.pipeline_tag, brief.private]))
    """
    assert client.run(script) == [None, 2, "mit", True, None, True, None, "text-generation", True]
    failed = client.fail("api.model_info('me/qwen-sft', expand=['nonsense'])")
    assert "a model has: author" in failed


def test_pages_neither_repeat_nor_skip(server: HubServer) -> None:
    for order in ("", "&sort=lastModified", "&sort=id&direction=1", "&search=e&filter=transformers"):
        path, ids = f"/api/models?limit=1{order}", []
        while path:
            answer = ask(server.url, "GET", path)
            ids += [row["id"] for row in answer.json()]
            path = answer.headers.get("link", "").split(">")[0].removeprefix(f"<{server.url}")
        assert ids == [row["id"] for row in ask(server.url, "GET", f"/api/models?limit=1000{order}").json()]
    # what was deleted between two pages takes nothing else with it
    ask(server.url, "POST", "/api/repos/create", {"name": "passing"})
    first = ask(server.url, "GET", "/api/models?limit=1")
    ask(server.url, "DELETE", "/api/repos/delete", {"name": "passing"})
    second = ask(server.url, "GET", first.headers["link"].split(">")[0].removeprefix(f"<{server.url}"))
    assert (first.json()[0]["id"], second.json()[0]["id"]) == ("me/passing", "lab/empty")


@pytest.mark.parametrize("query", ["sort=size", "limit=x", "cursor=x", "cursor=WzFd", "num_parameters=6B", "expand=x"])
def test_what_cannot_be_meant_is_said(server: HubServer, query: str) -> None:
    answer = ask(server.url, "GET", f"/api/models?{query}")
    assert (answer.status, answer.json()["error"].split("'")[1]) == (400, query.partition("=")[0])


def test_a_moved_or_hidden_repo_is_listed_as_it_is_now(server: HubServer) -> None:
    ask(server.url, "POST", "/api/repos/create", {"name": "was", "private": False})
    assert ask(server.url, "GET", "/api/models?search=was", token=None).json()[0]["private"] is False
    ask(server.url, "POST", "/api/repos/move", {"fromRepo": "me/was", "toRepo": "me/became"})
    row = ask(server.url, "GET", "/api/models?search=became", token=None).json()[0]
    assert (row["id"], row["modelId"], row["author"]) == ("me/became", "me/became", "me")
    ask(server.url, "PUT", "/api/models/me/became/settings", {"private": True})
    assert ask(server.url, "GET", "/api/models?search=became", token=None).json() == []
    ask(server.url, "DELETE", "/api/repos/delete", {"name": "became"})


def test_a_tree_of_many_files_comes_in_pages_of_one_commit(server: HubServer, client: Client, tmp_path: Path) -> None:
    ask(server.url, "POST", "/api/repos/create", {"name": "many"})
    files = [("file", {"path": f"d{i % 7}/{i:04d}", "content": "", "encoding": "base64"}) for i in range(1100)]
    assert ask(server.url, "POST", "/api/models/me/many/commit/main", ndjson(*files)).status == 200
    script = "print(json.dumps([f.path for f in api.list_repo_tree('me/many', recursive=True)]))"
    paths = client.run(script)
    assert len(paths) == len(set(paths)) == 1100 + 7 + 1
    first = ask(server.url, "GET", "/api/models/me/many/tree/main?recursive=true&limit=1000")
    more = ndjson(("file", {"path": "a-new-first-file", "content": "", "encoding": "base64"}))
    assert ask(server.url, "POST", "/api/models/me/many/commit/main", more).status == 200
    rest = ask(server.url, "GET", first.headers["link"].split(">")[0].removeprefix(f"<{server.url}"))
    assert [row["path"] for row in first.json() + rest.json()] == paths
    assert ask(server.url, "GET", "/api/models/me/many/tree/main?cursor=x").status == 400
    assert ask(server.url, "GET", f"/api/models/me/many/tree/main?cursor={'0' * 40}:0").status == 404


def test_a_history_comes_in_pages_of_what_the_first_one_saw(server: HubServer) -> None:
    ask(server.url, "POST", "/api/repos/create", {"name": "history"})

    def commit(name: str) -> None:
        body = ndjson(("file", {"path": name, "content": "", "encoding": "base64"}), header={"summary": f"adds {name}"})
        assert ask(server.url, "POST", "/api/models/me/history/commit/main", body).status == 200

    for name in "abc":
        commit(name)
    path, titles = "/api/models/me/history/commits/main?limit=2", []
    while path:
        answer = ask(server.url, "GET", path)
        titles += [row["title"] for row in answer.json()]
        path = answer.headers.get("link", "").split(">")[0].removeprefix(f"<{server.url}")
        commit(f"between-{len(titles)}")
    assert titles == ["adds c", "adds b", "adds a", "initial commit"]
    assert ask(server.url, "GET", "/api/models/me/history/commits/main?cursor=nowhere").status == 404


def test_the_files_in_one_answer_are_bounded(
    server: HubServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds no list of files asks for the tree, as the default client does."""
    files = [("file", {"path": f"{i}.txt", "content": "YQ==", "encoding": "base64"}) for i in range(30)]
    for name in ("many-a", "many-b"):
        assert ask(server.url, "POST", "/api/repos/create", {"name": f"me/{name}"}).status == 200
        assert ask(server.url, "POST", f"/api/models/me/{name}/commit/main", ndjson(*files)).status == 200
    here = "/api/models/me/many-a?blobs=1"
    number = len(ask(server.url, "GET", here).json()["siblings"])
    monkeypatch.setattr(limits, "SIBLINGS", number)
    assert len(ask(server.url, "GET", here).json()["siblings"]) == number
    listed = ask(server.url, "GET", "/api/models?search=many-&full=1").json()
    assert sorted(len(row.get("siblings", ())) for row in listed) == [0, number]
    monkeypatch.setattr(limits, "SIBLINGS", number - 1)
    facts = ask(server.url, "GET", here).json()
    assert "siblings" not in facts
    assert facts["sha"]
    got = client.run("print(json.dumps(len(os.listdir(snapshot_download('me/many-a')))))")
    assert got == number


def test_weights_that_could_not_be_read_are_read_again(tmp_path: Path) -> None:
    blobs, lfs = ContentStore(tmp_path), Lfs(oid="5" * 64, size=0, pointer_size=0)
    entries = [Entry(path="model.safetensors", folder=False, oid=ObjectID(b"1" * 40), lfs=lfs)]
    assert weights.parameters(blobs, entries) == {}
    blobs.path(lfs.oid).parent.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    blobs.path(lfs.oid).write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    assert weights.parameters(blobs, entries) == {"F32": 6}
