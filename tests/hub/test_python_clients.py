"""The documented flows of huggingface_hub, each with the unmodified client of both generations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hubs import CLIENTS, TOKEN, Client, ask
from safetensors.numpy import save_file

from perdure.hub.accounts import Accounts
from perdure.hub.server import HubServer


@pytest.fixture(params=["2", "1"])
def generation(request: pytest.FixtureRequest, client: Client) -> Client:
    if request.param == "1":
        client.python = CLIENTS / "python-1" / "bin" / "python"
        if not client.python.exists():
            pytest.skip("waits for huggingface_hub 1.x: scripts/install-clients")
    return client


@pytest.fixture
def repo(generation: Client, request: pytest.FixtureRequest, server: HubServer) -> str:
    """A new repository of its own for each test and generation."""
    name = request.node.name.split("[")[0].removeprefix("test_").replace("_", "-")[:60].strip("-")
    generation_number = request.node.callspec.params["generation"]
    assert ask(server.url, "POST", "/api/repos/create", {"name": f"{name}-{generation_number}"}).status == 200
    return f"me/{name}-{generation_number}"


def test_the_file_system(generation: Client, repo: str) -> None:
    seen = generation.run(
        """
        from huggingface_hub import HfFileSystem
        fs, repo = HfFileSystem(endpoint=url, token=token), args[0]
        with fs.open(f"{repo}/data/a.txt", "w") as file:
            file.write("first line\\nsecond line\\n")
        fs.pipe_file(f"{repo}/data/w.bin", bytes(range(256)) * 2000)
        with fs.open(f"{repo}/data/w.bin", "rb", block_size=1000) as file:
            file.seek(300_000)
            part = list(file.read(4))
        fs.cp_file(f"{repo}/data/a.txt", f"{repo}/data/b.txt")
        listed = sorted(fs.ls(f"{repo}/data", detail=False))
        sizes = {Path(p).name: fs.info(p)["size"] for p in fs.glob(f"{repo}/**/*.bin")}
        fs.rm(f"{repo}/data/a.txt")
        fs.invalidate_cache()
        print(json.dumps([part, listed, sizes, fs.exists(f"{repo}/data/a.txt"), fs.isdir(f"{repo}/data"),
                          fs.read_text(f"{repo}/data/b.txt").splitlines()[1], sorted(fs.find(f"{repo}@main/data"))]))
        """,
        repo,
    )
    names = [f"{repo}/data/{name}" for name in ("a.txt", "b.txt", "w.bin")]
    part = [i % 256 for i in range(300_000, 300_004)]
    found = [name.replace(repo, f"{repo}@main") for name in names[1:]]
    assert seen == [part, names, {"w.bin": 512_000}, False, True, "second line", found]


def test_a_folder_committed_on_a_schedule(generation: Client, repo: str, tmp_path: Path) -> None:
    seen = generation.run(
        """
        from huggingface_hub import CommitScheduler
        repo, folder = args
        with CommitScheduler(repo_id=repo, folder_path=folder, path_in_repo="runs", every=600, hf_api=api) as schedule:
            with schedule.lock:
                Path(folder, "log.jsonl").write_text('{"loss": 2}\\n')
            schedule.trigger().result()
            with schedule.lock, Path(folder, "log.jsonl").open("a") as log:
                log.write('{"loss": 1}\\n')
        titles = [c.title for c in api.list_repo_commits(repo)]
        print(json.dumps([Path(hf_hub_download(repo, "runs/log.jsonl")).read_text(), titles]))
        """,
        repo,
        tmp_path / "runs",
    )
    assert seen[0] == '{"loss": 2}\n{"loss": 1}\n'
    assert seen[1] == ["Scheduled Commit", "Scheduled Commit", "initial commit"]


@pytest.mark.parametrize("generation", ["2"], indirect=True)  # the first one asks huggingface.co about every card
def test_cards_and_their_metadata(generation: Client, repo: str) -> None:
    seen = generation.run(
        """
        from huggingface_hub import ModelCard, ModelCardData, EvalResult, metadata_update, metadata_load
        repo = args[0]
        result = EvalResult(task_type="text-generation", dataset_type="gsm8k", dataset_name="GSM8K",
                            metric_type="accuracy", metric_value=0.5)
        card = ModelCard.from_template(ModelCardData(license="mit", model_name="tiny", eval_results=[result],
                                                     base_model="Qwen/Qwen3"))
        card.push_to_hub(repo, token=token)
        metadata_update(repo, {"tags": ["sft"], "pipeline_tag": "text-generation"}, token=token)
        loaded = ModelCard.load(repo, token=token)
        info = api.model_info(repo)
        try:
            ModelCard("---\\nlicense: [[5]]\\n---\\n").push_to_hub(repo, token=token)
        except Exception as error:
            refused = str(error)
        print(json.dumps([loaded.data.license, loaded.data.tags, loaded.data.eval_results[0].metric_value,
                          info.pipeline_tag, info.card_data.base_model, "base_model:Qwen/Qwen3" in info.tags,
                          info.model_index[0]["name"], refused]))
        """,
        repo,
    )
    assert seen[:7] == ["mit", ["sft"], 0.5, "text-generation", "Qwen/Qwen3", True, "tiny"]
    assert "must be a string or a list of strings" in seen[7]


def test_history_deletions_and_squashing(generation: Client, repo: str) -> None:
    seen = generation.run(
        """
        repo = args[0]
        for i in range(3):
            api.upload_file(repo_id=repo, path_in_repo=f"logs/{i}.txt", path_or_fileobj=str(i).encode())
        api.delete_files(repo, delete_patterns=["logs/*1.txt"])
        api.delete_file("logs/0.txt", repo)
        commits = api.list_repo_commits(repo, formatted=True)
        api.create_branch(repo, branch="before", revision=commits[2].commit_id)
        then = [e.path for e in api.list_repo_tree(repo, "logs", revision="before")]
        api.super_squash_history(repo, commit_message="all of it")
        refs = api.list_repo_refs(repo)
        print(json.dumps([len(commits), then, [c.title for c in api.list_repo_commits(repo)],
                          [e.path for e in api.list_repo_tree(repo, "logs")], sorted(b.name for b in refs.branches),
                          api.revision_exists(repo, "before"), api.revision_exists(repo, "after")]))
        """,
        repo,
    )
    then = ["logs/0.txt", "logs/1.txt", "logs/2.txt"]
    assert seen == [6, then, ["all of it"], ["logs/2.txt"], ["before", "main"], True, False]


def test_a_large_folder_that_may_be_pushed_again(generation: Client, repo: str, tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / "large" / f"part-{i % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "large" / f"part-{i % 3}" / f"{i}.bin").write_bytes(os.urandom(50_000))
    (tmp_path / "large" / "notes.txt").write_text("text")
    seen = generation.run(
        """
        repo, folder = args
        if hasattr(api, "upload_large_folder"):  # the second generation does the same in upload_folder
            api.upload_large_folder(repo_id=repo, folder_path=folder, repo_type="model", num_workers=2,
                                    print_report=False)
        api.upload_folder(repo_id=repo, folder_path=folder)
        got = snapshot_download(repo, allow_patterns=["*.bin", "*.txt"])
        wanted = [p for p in Path(folder).rglob("*") if p.is_file() and ".cache" not in p.parts]
        same = all((Path(got) / p.relative_to(folder)).read_bytes() == p.read_bytes() for p in wanted)
        print(json.dumps([len(wanted), same, len(list(Path(got).rglob("*.*"))), Path(got, ".gitattributes").exists()]))
        """,
        repo,
        tmp_path / "large",
    )
    assert seen == [13, True, 13, False]


def test_facts_of_safetensors_files(generation: Client, repo: str, tmp_path: Path) -> None:
    tensors = {f"layers.{i}.weight": np.ones((4, 5), np.float16) for i in range(3)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    seen = generation.run(
        """
        repo, file = args
        api.upload_file(repo_id=repo, path_in_repo="model.safetensors", path_or_fileobj=file)
        metadata = api.get_safetensors_metadata(repo)
        info = api.model_info(repo, files_metadata=True)
        weights = next(s for s in info.siblings if s.rfilename == "model.safetensors")
        meta = api.get_hf_file_metadata(url=f"{url}/{repo}/resolve/main/model.safetensors", token=token)
        print(json.dumps([metadata.parameter_count, sorted(metadata.weight_map), info.safetensors.total,
                          weights.lfs.size == weights.size == meta.size, weights.lfs.sha256 == meta.etag,
                          meta.commit_hash == info.sha]))
        """,
        repo,
        tmp_path / "model.safetensors",
    )
    assert seen == [{"F16": 60}, sorted(tensors), 60, True, True, True]


def test_copies_within_a_repository_and_commits_with_a_parent(generation: Client, repo: str) -> None:
    seen = generation.run(
        """
        from huggingface_hub import CommitOperationCopy
        repo = args[0]
        weights = os.urandom(200_000)
        first = api.create_commit(repo, commit_message="first", operations=[
            CommitOperationAdd("w.bin", weights), CommitOperationAdd("a.txt", b"text")])
        api.create_commit(repo, commit_message="copies", parent_commit=first.oid, operations=[
            CommitOperationCopy("w.bin", "copy/w.bin"), CommitOperationCopy("a.txt", "copy/a.txt"),
            CommitOperationDelete("a.txt")])
        try:
            api.create_commit(repo, commit_message="late", parent_commit=first.oid,
                              operations=[CommitOperationAdd("late.txt", b"x")])
        except Exception as error:
            late = error.response.status_code
        same = Path(hf_hub_download(repo, "copy/w.bin")).read_bytes() == weights
        print(json.dumps([same, sorted(api.list_repo_files(repo)), late]))
        """,
        repo,
    )
    assert seen == [True, [".gitattributes", "copy/a.txt", "copy/w.bin", "w.bin"], 412]


def test_settings_and_who_may_download(generation: Client, repo: str) -> None:
    seen = generation.run(
        """
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
        from huggingface_hub import auth_check
        repo, raised = args[0], []
        stranger = HfApi(endpoint=url, token=False)
        for settings in ({"private": True}, {"private": False}, {"gated": "manual"}, {"gated": False}):
            api.update_repo_settings(repo, **settings)
            try:
                stranger.get_hf_file_metadata(url=f"{url}/{repo}/resolve/main/.gitattributes")
                raised.append("")
            except (GatedRepoError, RepositoryNotFoundError) as error:
                raised.append(type(error).__name__)
        api.auth_check(repo)
        print(json.dumps([raised, [api.repo_exists(repo), stranger.repo_exists("me/none")], api.whoami()["orgs"],
                          api.get_user_overview("me").username]))
        """,
        repo,
    )
    assert seen == [["RepositoryNotFoundError", "", "GatedRepoError", ""], [True, False], [], "me"]


def test_what_this_hub_does_not_have_is_said(client: Client) -> None:
    for call in ("api.create_repo('me/space', repo_type='space', space_sdk='static')", "list(api.list_collections())"):
        said = client.fail(call)
        assert "keeps models and datasets" in said
        assert "500" not in said


def test_another_users_token_neither_sees_nor_changes(server: HubServer, tmp_path: Path) -> None:
    ask(server.url, "POST", "/api/repos/create", {"name": "mine-alone"})
    assert server._hub is not None
    Accounts(server._hub.db).add_user_with_token("you", "token-of-another-user", admin=False, label="test")
    for token, refused in (("token-of-another-user", "404"), (None, "401")):
        outsider = Client(server.url, token, tmp_path / "home")
        assert "RepositoryNotFoundError" in outsider.fail("api.model_info('me/mine-alone')")
        upload = "api.upload_file(repo_id='me/mine-alone', path_in_repo='a', path_or_fileobj=b'a')"
        assert refused in outsider.fail(upload)
    assert ask(server.url, "GET", "/api/models/me/mine-alone", token=TOKEN).status == 200
