"""The real huggingface_hub against the hub: what its users do, in both of its upload modes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hubs import CLIENTS, TOKEN, Client, ask
from safetensors.numpy import save_file

from perdure.hub.server import HubServer


@pytest.fixture(params=["xet", "lfs", "generation-1", "generation-1-lfs"])
def either(request: pytest.FixtureRequest, client: Client) -> Client:
    client.xet = not request.param.endswith("lfs")
    if request.param.startswith("generation-1"):
        client.python = CLIENTS / "python-1" / "bin" / "python"
        if not client.python.exists():
            pytest.skip("waits for huggingface_hub 1.x: scripts/install-clients")
    return client


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> str:
    """Which of them: part of a repository's name."""
    return str(request.node.callspec.params["either"])


def _model(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    card = "---\nlicense: mit\nlibrary_name: transformers\nbase_model: a/b\ntags: [sft]\n---\n# A model\n"
    (folder / "README.md").write_text(card)
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    rng = np.random.default_rng(0)
    tensors = {
        "random": rng.standard_normal((512, 1024)).astype(np.float32),  # xet groups its bytes
        "smooth": np.arange(300_000, dtype=np.float16),
        "zeros": np.zeros(400_001, dtype=np.int8),
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "sub" / "odd näme.bin").write_bytes(os.urandom(1_500_001))
    (folder / "empty.bin").write_bytes(b"")
    return folder


def _assert_same(got: Path, wanted: Path) -> None:
    names = {str(path.relative_to(wanted)) for path in wanted.rglob("*") if path.is_file()}
    assert names <= {str(path.relative_to(got)) for path in got.rglob("*") if path.is_file()}
    for name in names:
        assert (got / name).read_bytes() == (wanted / name).read_bytes(), name


def test_the_whole_road_of_a_model(either: Client, mode: str, tmp_path: Path) -> None:
    repo = f"me/road-{mode}"
    folder = _model(tmp_path / "model")
    seen = either.run(
        """
        repo, folder, cache = args
        created = api.create_repo(repo, private=True)
        assert created.repo_id == repo, created
        assert api.create_repo(repo, private=True, exist_ok=True) == created
        first = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="first")
        again = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="again")
        assert again.oid == first.oid
        api.create_tag(repo, tag="v1", tag_message="the first")
        api.create_commit(repo, commit_message="less\\n\\nand more", operations=[
            CommitOperationDelete("sub/", is_folder=True),
            CommitOperationDelete("config.json"),
            CommitOperationAdd("notes.txt", b"hello"),
        ])
        info = api.model_info(repo, files_metadata=True)
        old = api.model_info(repo, revision="v1")
        refs = api.list_repo_refs(repo)
        here = snapshot_download(repo, cache_dir=cache + "/now")
        then = snapshot_download(repo, revision="v1", cache_dir=cache + "/then")
        print(json.dumps({
            "first": first.oid, "private": info.private, "tags": old.tags, "library": info.library_name,
            "parameters": info.safetensors.parameters, "total": info.safetensors.total,
            "license": info.card_data.license, "config": old.config,
            "files": sorted(s.rfilename for s in info.siblings), "old": old.sha,
            "sizes": {s.rfilename: s.size for s in info.siblings},
            "lfs": {s.rfilename: s.lfs.sha256 for s in info.siblings if s.lfs},
            "tag": refs.tags[0].target_commit, "branches": [b.name for b in refs.branches],
            "titles": [c.title for c in api.list_repo_commits(repo)],
            "tree": sorted(e.path for e in api.list_repo_tree(repo, revision="v1", recursive=True)),
            "expanded": {e.path: e.last_commit.title for e in api.list_repo_tree(repo, expand=True)},
            "paths": [p.path for p in api.get_paths_info(repo, ["notes.txt", "absent", "README.md"])],
            "listed": [m.id for m in api.list_models(author="me", search="road")],
            "exists": [api.file_exists(repo, "notes.txt"), api.file_exists(repo, "nothing.txt"),
                       api.revision_exists(repo, "v1"), api.revision_exists(repo, "v2"), api.repo_exists("me/zz")],
            "now": here, "then": then, "name": api.whoami()["name"],
        }))
        """,
        repo,
        folder,
        tmp_path / "cache",
    )
    assert seen["name"] == "me"
    assert seen["private"] is True
    assert seen["first"] == seen["old"] == seen["tag"]
    assert {"sft", "license:mit", "base_model:a/b", "safetensors", "llama", "transformers"} <= set(seen["tags"])
    assert seen["parameters"] == {"F32": 512 * 1024, "F16": 300_000, "I8": 400_001}
    assert seen["total"] == 512 * 1024 + 300_000 + 400_001
    assert seen["license"] == "mit"
    assert seen["config"] == {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    assert seen["library"] == "transformers"
    assert seen["files"] == [".gitattributes", "README.md", "empty.bin", "model.safetensors", "notes.txt"]
    assert seen["sizes"]["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert list(seen["lfs"]) == ["model.safetensors"]
    assert seen["titles"] == ["less", "first", "initial commit"]
    assert "sub/odd näme.bin" in seen["tree"]
    assert seen["expanded"]["notes.txt"] == "less"
    assert seen["expanded"]["README.md"] == "first"
    assert seen["paths"] == ["notes.txt", "README.md"]
    assert repo in seen["listed"]
    assert seen["exists"] == [True, False, True, False, False]
    _assert_same(Path(seen["then"]), folder)
    assert not (Path(seen["now"]) / "config.json").exists()
    assert (Path(seen["now"]) / "notes.txt").read_text() == "hello"


def test_a_dataset_branches_moves_and_goes(either: Client, mode: str, tmp_path: Path) -> None:
    name = f"data-{mode}"
    (tmp_path / "rows.parquet").write_bytes(os.urandom(300_000))
    seen = either.run(
        """
        name, file = args
        repo, moved = f"me/{name}", f"me/{name}-moved"
        api.create_repo(repo, repo_type="dataset", private=False)
        api.create_branch(repo, branch="exp/step-1", repo_type="dataset")
        api.upload_file(repo_id=repo, repo_type="dataset", revision="exp/step-1", path_or_fileobj=file,
                        path_in_repo="rows.parquet")
        assert not api.file_exists(repo, "rows.parquet", repo_type="dataset")
        try:
            api.create_branch(repo, branch="exp", repo_type="dataset")
        except Exception as error:
            clash = error.response.status_code
        api.move_repo(repo, moved, repo_type="dataset")
        got = hf_hub_download(repo, "rows.parquet", repo_type="dataset", revision="exp/step-1")
        same = Path(got).read_bytes() == Path(file).read_bytes()
        branch = api.dataset_info(moved, revision="exp/step-1").sha
        api.super_squash_history(moved, branch="exp/step-1", repo_type="dataset")
        titles = [c.title for c in api.list_repo_commits(moved, repo_type="dataset", revision="exp/step-1")]
        kept = [e.path for e in api.list_repo_tree(moved, repo_type="dataset", revision="exp/step-1")]
        api.delete_branch(moved, branch="exp/step-1", repo_type="dataset")
        branches = [b.name for b in api.list_repo_refs(moved, repo_type="dataset").branches]
        api.update_repo_settings(moved, repo_type="dataset", private=True)
        private = api.dataset_info(moved).private
        listed = [d.id for d in api.list_datasets(author="me")]
        api.delete_repo(moved, repo_type="dataset")
        print(json.dumps([clash, same, titles, kept, branches, private, moved in listed,
                          api.repo_exists(moved, repo_type="dataset")]))
        """,
        name,
        tmp_path / "rows.parquet",
    )
    clash, same, titles, kept, branches, private, listed, exists = seen
    assert clash == 409
    assert same
    assert len(titles) == 1
    assert kept == [".gitattributes", "rows.parquet"]
    assert branches == ["main"]
    assert private
    assert listed
    assert not exists


def test_a_download_that_was_cut_off_goes_on(client: Client, server: HubServer, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "w.bin").write_bytes(data)
    got = client.run(
        """
        file, cache = args
        api.create_repo("me/resume", private=True)
        api.upload_file(repo_id="me/resume", path_or_fileobj=file, path_in_repo="w.bin")
        meta = api.get_hf_file_metadata(url=f"{url}/me/resume/resolve/main/w.bin", token=token)
        blobs = Path(cache, "models--me--resume", "blobs")
        blobs.mkdir(parents=True)
        (blobs / f"{meta.etag}.incomplete").write_bytes(Path(file).read_bytes()[:1_200_000])
        print(json.dumps(hf_hub_download("me/resume", "w.bin", cache_dir=cache)))
        """,
        tmp_path / "w.bin",
        tmp_path / "cache",
    )
    assert Path(got).read_bytes() == data
    raw = ask(server.url, "GET", "/me/resume/raw/main/w.bin")
    assert raw.body.endswith(b"\nsize 2000000\n")  # the pointer, which is what git has
    part = ask(server.url, "GET", "/me/resume/resolve/main/w.bin", Range="bytes=1999990-")
    assert (part.status, part.body) == (206, data[-10:])


def test_a_wrong_token_is_named_as_such(client: Client) -> None:
    client.token = "hf_this_is_nobodys_token"
    assert "401" in client.fail("api.whoami()")
    assert "401" in client.fail("api.create_repo('me/not-mine')")


def test_tags_are_never_moved_silently(client: Client) -> None:
    said = client.fail(
        """
        api.create_repo("me/tagged")
        api.create_tag("me/tagged", tag="v1")
        api.create_tag("me/tagged", tag="v1")
        """
    )
    assert "409" in said
    assert (
        client.run(
            """
        api.delete_tag("me/tagged", tag="v1")
        print(json.dumps(len(api.list_repo_refs("me/tagged").tags)))
        """
        )
        == 0
    )


def test_a_broken_card_is_refused_with_the_reason(client: Client) -> None:
    said = client.fail(
        """
        api.create_repo("me/card")
        api.upload_file(repo_id="me/card", path_in_repo="README.md", path_or_fileobj=b"---\\ntags: {a: 1}\\n---\\n")
        """
    )
    assert '"tags" must be a string or a list of strings' in said


def test_a_thousand_small_files_are_one_commit(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(1000):
        (folder / f"{i}.txt").write_text(str(i))
    seen = client.run(
        """
        api.create_repo("me/many")
        files = sorted(Path(args[0]).iterdir())
        api.create_commit("me/many", commit_message="all at once",
                          operations=[CommitOperationAdd(f.name, f.read_bytes()) for f in files])
        info = api.model_info("me/many", files_metadata=True)
        print(json.dumps([len(info.siblings), sum(s.size for s in info.siblings if s.rfilename.endswith("txt")),
                          len(api.list_repo_commits("me/many"))]))
        """,
        folder,
    )
    assert seen == [1001, sum(len(str(i)) for i in range(1000)), 2]


def test_transformers_ask_for_what_is_not_there(server: HubServer) -> None:
    ask(server.url, "POST", "/api/repos/create", {"name": "probe"})
    missing = ask(server.url, "GET", "/api/models/me/probe/tree/main/additional_chat_templates")
    assert (missing.status, missing.headers["x-error-code"]) == (404, "EntryNotFound")
    missing = ask(server.url, "HEAD", "/me/probe/resolve/main/tokenizer.json")
    assert (missing.status, missing.headers["x-error-code"]) == (404, "EntryNotFound")
    assert len(missing.headers["x-repo-commit"]) == 40
    missing = ask(server.url, "GET", "/api/models/me/probe/revision/nope", token=TOKEN)
    assert (missing.status, missing.headers["x-error-code"]) == (404, "RevisionNotFound")
