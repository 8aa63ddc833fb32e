"""The plan of a push: pure, so every case is one line of data."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.publishing.plan import make_plan

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]


def sized(*paths: str) -> dict[str, int]:
    return dict.fromkeys(paths, 7)


def test_first_push_adds_everything_and_touches_nothing_else() -> None:
    plan = make_plan({"model.safetensors": 10, "config.json": 2}, {".gitattributes": 1}, same=(), saved_before=())
    assert plan.add == ("config.json", "model.safetensors")
    assert (plan.change, plan.delete, plan.keep, plan.nbytes) == ((), (), (), 12)
    assert not plan.empty


def test_only_what_differs_is_sent() -> None:
    local = {"model.safetensors": 10, "config.json": 2, "README.md": 3}
    plan = make_plan(local, {**local, "LICENSE": 1}, same=["model.safetensors", "config.json"], saved_before=())
    assert (plan.add, plan.change, plan.delete) == ((), ("README.md",), ())
    assert plan.keep == ("config.json", "model.safetensors")
    assert plan.nbytes == 3


def test_the_same_folder_again_is_an_empty_plan() -> None:
    plan = make_plan({"model.safetensors": 10}, sized("model.safetensors", "LICENSE"), same=["model.safetensors"],
                     saved_before=["model.safetensors"])  # fmt: skip
    assert plan.empty


def test_old_shards_leave_when_one_file_replaces_them() -> None:
    plan = make_plan({"model.safetensors": 10}, sized(*SHARDS), same=(), saved_before=())
    assert plan.delete == tuple(sorted(SHARDS))
    assert {plan.sizes[path] for path in plan.delete} == {7} and plan.nbytes == 10


def test_one_file_leaves_when_shards_replace_it() -> None:
    plan = make_plan(
        dict.fromkeys(SHARDS, 1), sized("model.safetensors", "pytorch_model.bin"), same=(), saved_before=()
    )
    assert plan.delete == ("model.safetensors", "pytorch_model.bin")


def test_an_adapters_config_leaves_with_its_weights_when_a_full_model_comes() -> None:
    remote = sized("adapter_model.safetensors", "adapter_config.json", "config.json")
    plan = make_plan({"model.safetensors": 10, "config.json": 1}, remote, same=(), saved_before=())
    assert plan.delete == ("adapter_config.json", "adapter_model.safetensors")


def test_files_of_the_earlier_save_leave_and_those_of_people_stay() -> None:
    remote = sized("model.safetensors", "added_tokens.json", "LICENSE", "plot.png", "perdure.json", "README.md")
    before = ["model.safetensors", "added_tokens.json", "README.md"]
    plan = make_plan({"model.safetensors": 10, "perdure.json": 1}, remote, same=(), saved_before=before)
    assert plan.delete == ("added_tokens.json",)


def test_a_folder_without_a_manifest_takes_the_old_manifest_away() -> None:
    plan = make_plan({"model.safetensors": 10}, sized("perdure.json", "model.safetensors"), same=(), saved_before=())
    assert plan.delete == ("perdure.json",)


def test_a_folder_without_weights_deletes_nothing() -> None:
    remote = sized("model.safetensors", "perdure.json", "tokenizer.json")
    plan = make_plan({"tokenizer.json": 1}, remote, same=(), saved_before=["model.safetensors"])
    assert plan.delete == ()


_paths = st.sets(
    st.sampled_from(
        [*SHARDS, "model.safetensors", "adapter_config.json", "README.md", "LICENSE", "perdure.json", "a/b"]
    )
)


@given(local=_paths, remote=_paths, same=_paths, before=_paths)
def test_every_path_has_exactly_one_fate(local: set[str], remote: set[str], same: set[str], before: set[str]) -> None:
    plan = make_plan(dict.fromkeys(local, 1), sized(*remote), same=same & local & remote, saved_before=before)
    parts = [*plan.add, *plan.change, *plan.keep]
    assert sorted(parts) == sorted(local)
    assert set(plan.delete) <= remote - local - {"README.md", "LICENSE"} | (before - local - {"README.md"})
    assert set(plan.send) == (local - remote) | (local & remote - same)
