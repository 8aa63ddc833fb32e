"""What leaves the machine, and what never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.checks.verify import verify
from perdure.errors import Corrupt, InvalidInput, NotFound
from perdure.format.manifest import Manifest, decode
from perdure.format.names import MANIFEST
from perdure.model.source import other_files
from perdure.publishing.selection import select
from publishing import save_folder, weights


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")


def test_with_a_manifest_exactly_its_files_go(saved: Path) -> None:
    fill(
        saved, "checkpoint-10/optimizer.pt", "checkpoint-10/model.safetensors", "training_args.bin", "notes.txt", ".env"
    )
    selection = select(saved)
    assert list(selection.files) == ["config.json", "model.safetensors", "perdure.json", "tokenizer.json"]
    assert selection.left_out == ("checkpoint-10", "notes.txt", "training_args.bin")


def test_a_card_written_by_hand_goes_too(saved: Path) -> None:
    (saved / "README.md").write_text("# Mine")
    assert "README.md" in select(saved).files


def test_without_a_manifest_the_models_own_files_go(tmp_path: Path) -> None:
    model = ["model.safetensors", "config.json", "tokenizer.model", "pytorch_model.bin", "modeling_mine.py",
             "README.md", "LICENSE", "additional_chat_templates/tools.jinja", "all_results.json"]  # fmt: skip
    others = ["training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state_0.pth", "scaler.pt",
              "trainer_state.json", "checkpoint-5/model.safetensors", ".git/config", ".env", ".netrc", "data.pkl",
              "runs/events.out.tfevents.1", "global_step5/x.pt", "additional_chat_templates/x.pkl"]  # fmt: skip
    fill(tmp_path, *model, *others)
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "modeling_mine.MyModel"}}')
    selection = select(tmp_path)
    assert sorted(selection.files) == sorted(model)
    assert "training_args.bin" in selection.left_out
    assert ".env" not in selection.left_out


def test_publish_export_and_verify_agree_on_what_is_a_model_s(tmp_path: Path) -> None:
    weights = ["model.safetensors", "model-q4.gguf", "model.onnx"]
    others = ["config.json", "tokenizer.json", "README.md", "LICENSE.md", "source.spm", "quantize_config.json",
              "additional_chat_templates/tools.jinja"]  # fmt: skip
    state = ["optimizer_0.bin", "scheduler.safetensors", "events.out.tfevents.1.txt", "training_args.bin"]
    fill(tmp_path, *weights, *others, *state, "data.pkl", ".env", "checkpoint-5/model.safetensors", "notes.yaml")
    assert list(select(tmp_path).files) == sorted(weights + others)
    assert other_files(tmp_path) == sorted(others)
    (tmp_path / MANIFEST).write_bytes(Manifest(kind="model", files={}).encode())
    found = verify(tmp_path)
    assert set(state) <= set(found.extra)
    assert {problem.path for problem in found.problems} <= {*weights, *others}


def test_a_persons_own_files_stay_whatever_their_ending(tmp_path: Path) -> None:
    own = ["secrets.json", "hf_token.txt", "credentials.txt", "service_account.json", "wandb_key.yaml", "passwords.md",
           "train.py", "id_rsa", "tokens.json", "photo.png", "keys.pt", "notes.txt"]  # fmt: skip
    fill(tmp_path, "model.safetensors", "config.json", "README.md", *own)
    selection = select(tmp_path)
    assert list(selection.files) == ["README.md", "config.json", "model.safetensors"]
    assert selection.left_out == tuple(sorted(own))


def test_code_goes_if_a_configuration_names_it_and_images_if_the_card_shows_them(tmp_path: Path) -> None:
    fill(tmp_path, "model.safetensors", "modeling_mine.py", "configuration_mine.py", "layers.py", "tokens_mine.py",
         "train.py", "other.py", "loss.png", "photo.png", "secrets.json")  # fmt: skip
    (tmp_path / "config.json").write_text(
        '{"auto_map": {"AutoModel": "modeling_mine.A", "AutoConfig": "configuration_mine.B",'
        ' "AutoModelForCausalLM": "them/there--other.C", "AutoX": "../train.D", "AutoY": 5}}'
    )
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["tokens_mine.T", null]}}')
    (tmp_path / "modeling_mine.py").write_text("import train\nfrom .layers import Layer\nfrom .gone import x\n")
    (tmp_path / "layers.py").write_text("from .modeling_mine import A  # in a circle\n")
    (tmp_path / "README.md").write_text("![loss](loss.png)")
    code = ["configuration_mine.py", "layers.py", "modeling_mine.py", "tokens_mine.py"]
    assert list(select(tmp_path).files) == sorted(
        ["README.md", "config.json", "loss.png", "model.safetensors", "tokenizer_config.json", *code]
    )
    assert set(code) < set(other_files(tmp_path)) == select(tmp_path).files.keys() - {"model.safetensors"}


@pytest.mark.parametrize("config", ["", "[]", '{"auto_map": 3}', "[" * 100_000])
def test_a_configuration_that_is_none_names_no_code(tmp_path: Path, config: str) -> None:
    fill(tmp_path, "model.safetensors", "train.py")
    (tmp_path / "config.json").write_text(config)
    assert list(select(tmp_path).files) == ["config.json", "model.safetensors"]


def test_a_symlink_in_a_circle_is_refused(saved: Path) -> None:
    (saved / "config.json").unlink()
    (saved / "config.json").symlink_to("config.json")
    with pytest.raises(InvalidInput, match="circle"):
        select(saved)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "config.json", "checkpoint-1/model.safetensors", "training_args.bin")
    with pytest.raises(InvalidInput, match="holds no model"):
        select(tmp_path)
    with pytest.raises(NotFound):
        select(tmp_path / "nowhere")


def test_a_symlink_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    fill(folder, "model.safetensors")
    (tmp_path / "secret.txt").write_text("secret")
    for name in ("vocab.txt", "merges.txt"):
        (folder / name).symlink_to(tmp_path / "secret.txt")
    with pytest.raises(InvalidInput, match=r"lead out(.|\n)*merges(.|\n)*vocab"):
        select(folder)


def test_a_manifests_file_that_became_a_symlink_out_is_refused(saved: Path) -> None:
    (saved.parent / "elsewhere.json").write_text("{}")
    (saved / "config.json").unlink()
    (saved / "config.json").symlink_to("../elsewhere.json")
    with pytest.raises(InvalidInput, match="lead out of the folder"):
        select(saved)


def test_a_symlink_within_the_folder_is_followed(tmp_path: Path) -> None:
    fill(tmp_path, "model.safetensors", "blobs/config")
    (tmp_path / "config.json").symlink_to("blobs/config")
    assert select(tmp_path).files["config.json"].read_bytes() == b"content"


def test_a_damaged_manifest_is_refused(saved: Path) -> None:
    manifest = saved / "perdure.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"kind": "model"', b'"kind": "madel"'))
    with pytest.raises(Corrupt):
        select(saved)


def test_without_training_state_the_manifest_names_what_is_left(tmp_path: Path) -> None:
    whole = save_folder(
        tmp_path / "checkpoint-20", {"model.safetensors": weights(), "training_state/optimizer.safetensors": weights(1)}
    )
    model = select(whole).without_training_state()
    assert set(model.files) == {"model.safetensors", "perdure.json"} and model.left_out == ("training_state",)
    manifest = model.files["perdure.json"]
    assert isinstance(manifest, bytes) and set(decode(manifest).files) == {"model.safetensors"}
    assert select(whole).files["perdure.json"] == whole / "perdure.json"
    assert model.without_training_state() is model
