"""What an attached trainer goes on from, and what it refuses to."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import perdure
from perdure.format.manifest import read_manifest


@pytest.fixture
def trainer(sft: Callable[..., Any], tmp_path: Path, tokenizer: Any) -> Callable[..., Any]:
    """An SFTTrainer that has not trained, attached unless told otherwise."""
    from tiny_models import make_model

    def make(name: str = "out", *, attached: bool = True, strict: bool = True, **changes: Any) -> Any:
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1, **changes}
        model = make_model(tokenizer)
        made = sft(model, train=False, output_dir=str(tmp_path / name), **settings)
        if attached:
            perdure.attach(made, strict=strict)
        return made

    return make


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Any, chats: Any
) -> dict[str, tuple[Path, dict[str, torch.Tensor]]]:
    """Runs of four steps, with the weights that they came to: attached, and without."""
    from tiny_models import make_model
    from trl import SFTConfig, SFTTrainer

    found = {}
    for name in ("ours", "stock"):
        out = tmp_path_factory.mktemp("runs") / name
        arguments = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1, "max_length": 64}
        cpu = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "learning_rate": 1e-3}
        config = SFTConfig(output_dir=str(out), per_device_train_batch_size=2, **arguments, **cpu)
        made = SFTTrainer(make_model(tokenizer), config, train_dataset=chats, processing_class=tokenizer)
        if name == "ours":
            perdure.attach(made)
        made.train()
        found[name] = out, {key: value.clone() for key, value in made.model.state_dict().items()}
    return found


@pytest.fixture
def run(finished: Any, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a finished run, without its last checkpoint."""

    def copy(name: str) -> Path:
        out = tmp_path / "out"
        shutil.copytree(finished[name][0], out)
        shutil.rmtree(out / "checkpoint-4")
        return out

    return copy


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (3, r"this is 3 \(int\)"),
        (b"x", r"this is b'x' \(bytes\)"),
        ("True", "the text 'True'"),
        ("checkpoint-3/training_state", r"is in a checkpoint[\s\S]+/checkpoint-3'\)"),
        ("checkpoint-3/model.safetensors", r"is in a checkpoint[\s\S]+/checkpoint-3'\)"),
    ],
)
def test_what_is_no_checkpoint(asked: Any, told: str, run: Callable[[str], Path], trainer: Callable[..., Any]) -> None:
    out = run("ours")
    with pytest.raises(perdure.InvalidInput, match=told):
        trainer().train(resume_from_checkpoint=out / asked if "/" in str(asked) else asked)


def came_to(made: Any, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, weights[key]) for key, value in made.model.state_dict().items())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_falls_back_past_damaged_ones_and_says_why(
    run: Callable[[str], Path], trainer: Callable[..., Any], finished: Any, caplog: pytest.LogCaptureFixture
) -> None:
    out = run("ours")
    flip(out / "checkpoint-3" / "training_state" / "optimizer.safetensors")
    (out / "checkpoint-2" / "model.safetensors").unlink()
    made = trainer()
    with caplog.at_level(logging.WARNING, "perdure"):
        made.train(resume_from_checkpoint=True)
    assert re.search(r"checkpoint-3 is not usable: \S*/optimizer\.safetensors: \S+ is not what was saved", caplog.text)
    assert "checkpoint-2 is not usable: model.safetensors is missing" in caplog.text
    restored = made._perdure.restored
    assert restored.step == 1
    assert [one.path.name for one in restored.skipped] == ["checkpoint-3", "checkpoint-2"]
    assert came_to(made, finished["ours"][1])
    assert all(perdure.verify(out / f"checkpoint-{step}").ok for step in (1, 2, 3, 4)), "they were written anew"


@pytest.mark.parametrize("older", ["ours", "the trainer's own"])
def test_a_training_that_begins_twice_begins_once(
    older: str, run: Callable[[str], Path], trainer: Callable[..., Any], finished: Any
) -> None:
    out = run("ours")
    if older == "the trainer's own":
        shutil.rmtree(out / "checkpoint-2")
        shutil.copytree(finished["stock"][0] / "checkpoint-2", out / "checkpoint-2")
    flip(out / "checkpoint-3" / "model.safetensors")
    made = trainer(neftune_noise_alpha=1e-30)  # by a hook that train() makes, and takes away at its end
    made.train(resume_from_checkpoint=True)
    assert came_to(made, finished["ours"][1])
    hooks = made.model.get_input_embeddings()._forward_hooks.values()
    assert not [hook for hook in hooks if "neftune" in hook.__name__]
    assert (made._perdure.restored is None) == (older == "the trainer's own")


def test_none_that_is_good(run: Callable[[str], Path], trainer: Callable[..., Any]) -> None:
    out = run("ours")
    for step in (1, 2, 3):
        flip(out / f"checkpoint-{step}" / "model.safetensors")
    with pytest.raises(perdure.Corrupt, match=r"No checkpoint in .* can be used \(3 tried\)"):
        trainer().train(resume_from_checkpoint=True)


def test_a_path(run: Callable[[str], Path], trainer: Callable[..., Any], finished: Any) -> None:
    out = run("ours")
    made = trainer("elsewhere")
    made.train(resume_from_checkpoint=str(out / "checkpoint-2"))
    assert came_to(made, finished["ours"][1])
    with pytest.raises(perdure.NotFound, match=r"newest that is whole: \S+'\S+/checkpoint-3'"):
        made.train(resume_from_checkpoint=str(out / "checkpoint-7"))
    flip(out / "checkpoint-3" / "model.safetensors")
    with pytest.raises(perdure.Corrupt, match=r"cannot be used: changed: model\.safetensors[\s\S]+/checkpoint-2'"):
        made.train(resume_from_checkpoint=str(out / "checkpoint-3"))


def test_a_path_that_is_no_checkpoints(run: Callable[[str], Path], trainer: Callable[..., Any], tmp_path: Path) -> None:
    out, alone = run("ours"), tmp_path / "elsewhere" / "checkpoint-1"
    made = trainer("elsewhere")
    with pytest.raises(perdure.InvalidInput, match=r"the folder of a run[\s\S]+/checkpoint-3'"):
        made.train(resume_from_checkpoint=out)
    with pytest.raises(perdure.InvalidInput, match="resume_from_checkpoint is empty"):
        made.train(resume_from_checkpoint="")
    alone.mkdir(parents=True)
    with pytest.raises(perdure.Corrupt, match=r"it is an empty folder[\s\S]+begin at zero: trainer\.train\(\)"):
        made.train(resume_from_checkpoint=alone)


def test_a_checkpoint_of_the_trainers_own_is_read_with_a_warning(
    run: Callable[[str], Path], trainer: Callable[..., Any], finished: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run("stock")
    made = trainer()
    with caplog.at_level(logging.WARNING, "perdure"):
        made.train(resume_from_checkpoint=True)
    assert "checkpoint-3 was written by the Trainer itself" in caplog.text
    assert "weights_only=True" in caplog.text
    assert came_to(made, finished["stock"][1])
    assert came_to(made, finished["ours"][1])


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_trainers_own_that_lacks_something(
    name: str, run: Callable[[str], Path], trainer: Callable[..., Any]
) -> None:
    out = run("stock")
    (out / "checkpoint-3" / name).unlink()
    with pytest.raises(perdure.StateMismatch, match=rf"{name} is missing[\s\S]*strict=False"):
        trainer().train(resume_from_checkpoint=True)
    lax = trainer(strict=False)
    lax.train(resume_from_checkpoint=True)
    assert lax.state.global_step == 4


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "none"])
def test_a_trainers_own_that_is_damaged_is_passed_over(
    name: str, run: Callable[[str], Path], trainer: Callable[..., Any], finished: Any, caplog: pytest.LogCaptureFixture
) -> None:
    newest = run("stock") / "checkpoint-3"
    if name == "none":
        (newest / "model.safetensors").unlink()
    else:
        (newest / name).write_bytes((newest / name).read_bytes()[:-9] if name < "o" else bytes(1000))
    made = trainer()
    with caplog.at_level(logging.WARNING, "perdure"):
        made.train(resume_from_checkpoint=True)
    assert "checkpoint-3 is not usable" in caplog.text
    assert "weights_only=False" not in caplog.text
    assert came_to(made, finished["stock"][1])


def test_a_trainers_own_of_another_model(run: Callable[[str], Path], trainer: Callable[..., Any]) -> None:
    run("stock")
    made = trainer()
    made.model.resize_token_embeddings(made.model.config.vocab_size + 8)
    with pytest.raises(perdure.StateMismatch, match="the model does not take the saved state"):
        made.train(resume_from_checkpoint=True)


def test_a_pickle_that_is_more_than_data_is_not_run(run: Callable[[str], Path], trainer: Callable[..., Any]) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (Path("evil"),)

    out = run("stock")
    torch.save({"state": Evil()}, out / "checkpoint-3" / "optimizer.pt")
    with pytest.raises(perdure.Corrupt, match=r"more than data[\s\S]+can be used: .+=True") as raised:
        trainer().train(resume_from_checkpoint=str(out / "checkpoint-3"))
    assert "weights_only" not in str(raised.getrepr())
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"per_device_train_batch_size": 1}, "the batch size was 2, and is 1"),
        ({"gradient_accumulation_steps": 2}, "the gradient accumulation was 1, and is 2"),
        ({"optim": "sgd"}, "optimizer was a AdamW, and is a SGD"),
        ({"dataloader_num_workers": 1}, "workers was 0, and is 1"),
    ],
)
def test_another_run_is_told_and_can_be_overruled(
    changes: dict[str, Any],
    told: str,
    run: Callable[[str], Path],
    trainer: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run("ours")
    made = trainer(**changes)
    before = {key: value.clone() for key, value in made.model.state_dict().items()}
    with pytest.raises(perdure.StateMismatch, match=rf"{told}[\s\S]*attach\(trainer, strict=False\)"):
        made.train(resume_from_checkpoint=True)
    assert came_to(made, before), "nothing was changed"
    lax = trainer(strict=False, **changes)
    with caplog.at_level(logging.WARNING, "perdure"):
        lax.train(resume_from_checkpoint=True)
    assert lax.state.global_step == 4
    anew = {"optim": "optimizer", "dataloader_num_workers": "loader"}.get(next(iter(changes)))
    assert (f"nothing is taken of {anew}, which begins anew" in caplog.text) if anew else "anew" not in caplog.text


def test_where_the_counts_of_steps_part_it_is_told(
    run: Callable[[str], Path], trainer: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    run("ours")
    lax = trainer(strict=False, per_device_train_batch_size=8, num_train_epochs=4, max_steps=-1)
    with caplog.at_level(logging.WARNING, "perdure"):
        lax.train(resume_from_checkpoint=True)
    assert "of epoch 0, after 3 batches" in caplog.text
    assert "epoch 3, after 0: training goes on there" in caplog.text


def test_other_data_and_other_parameters(run: Callable[[str], Path], trainer: Callable[..., Any]) -> None:
    run("ours")
    made = trainer()
    made.train_dataset = made.train_dataset.select(range(6))
    with pytest.raises(perdure.StateMismatch, match="samples was 8, and is 6"):
        made.train(resume_from_checkpoint=True)
    made = trainer()
    made.model.lm_head.weight.requires_grad_(False)
    with pytest.raises(perdure.StateMismatch, match=r"does not have lm_head\.weight"):
        made.train(resume_from_checkpoint=True)


def test_rows_for_more_tokens(
    run: Callable[[str], Path], trainer: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    run("ours")
    told = (
        r"optimizer cannot take its state of lm_head\.weight, which had the shape \[(\d+), 16\] and has \[(\d+), 16\]"
    )
    for strict in (True, False):
        made = trainer(strict=strict)
        made.model.resize_token_embeddings(made.model.config.vocab_size + 8)
        if strict:
            with pytest.raises(perdure.StateMismatch, match=told):
                made.train(resume_from_checkpoint=True)
    with caplog.at_level(logging.WARNING, "perdure"):
        made.train(resume_from_checkpoint=True)
    assert re.search(told, caplog.text)
    assert made.state.global_step == 4


@pytest.mark.parametrize("part", ["optimizer", "scheduler", "rng", "loader"])
def test_a_part_that_is_missing(part: str, run: Callable[[str], Path], trainer: Callable[..., Any]) -> None:
    folder = run("ours") / "checkpoint-3"
    manifest = read_manifest(folder)
    kept = {name: entry for name, entry in manifest.files.items() if not name.startswith(f"training_state/{part}.")}
    for name in set(manifest.files) - set(kept):
        (folder / name).unlink()
    with pytest.raises(perdure.Corrupt, match=rf"missing: training_state/{part}"):
        trainer().train(resume_from_checkpoint=str(folder))
    (folder / "perdure.json").write_bytes(dataclasses.replace(manifest, files=kept).encode())
    with pytest.raises(perdure.StateMismatch, match=rf"the checkpoint has no {part}"):
        trainer().train(resume_from_checkpoint=str(folder))


def test_adapters_and_a_model_without(trainer: Callable[..., Any]) -> None:
    config = peft.LoraConfig(r=2, target_modules="all-linear")
    trainer(peft=config, max_steps=1).train()
    with pytest.raises(perdure.StateMismatch, match="the checkpoint holds adapters, and the model has none"):
        trainer(max_steps=1).train(resume_from_checkpoint=True)
    trainer("whole", max_steps=1).train()
    with pytest.raises(perdure.StateMismatch, match="holds a whole model, and the model here has adapters"):
        trainer("whole", peft=config, max_steps=1).train(resume_from_checkpoint=True)


def test_a_checkpoint_of_the_model_alone_says_so(trainer: Callable[..., Any]) -> None:
    trainer(save_only_model=True, max_steps=1).train()
    with pytest.raises(perdure.StateMismatch, match="saved with save_only_model") as caught:
        trainer(max_steps=1).train(resume_from_checkpoint=True)
    assert "strict=False" in caught.value.hint


def test_a_training_begun_anew_beside_a_longer_one_is_told_of_it(
    trainer: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    trainer(max_steps=3).train()
    assert "earlier training" not in caplog.text
    again = trainer(max_steps=1)
    again.train()
    assert f"{again.args.output_dir} holds checkpoints of an earlier training, up to step 3" in caplog.text
    assert "begins at zero" in caplog.text
    assert "(checkpoint-1 checkpoint-2 checkpoint-3)" in caplog.text
    caplog.clear()
    trainer(max_steps=3).train(resume_from_checkpoint=str(Path(again.args.output_dir, "checkpoint-2")))
    assert "begins at step 2" in caplog.text
    caplog.clear()
    trainer(max_steps=3).train(resume_from_checkpoint=True)
    assert "earlier training" not in caplog.text
