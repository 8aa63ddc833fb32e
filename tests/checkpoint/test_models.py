"""Models of the libraries people train with: each checkpoint is a model folder, and restores every live tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

import perdure
from perdure.cli.app import run as command_line


def llama(**options: Any) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, **options
    )
    return transformers.LlamaForCausalLM(config)


def mixtral() -> Any:
    """Its experts are fused in memory and published one by one."""
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    return transformers.MixtralForCausalLM(config)


def lora() -> Any:
    torch.manual_seed(5)  # a base model that is the same each time
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(llama(), config)
    model.add_adapter("other", peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    return model


def compiled() -> Any:
    return torch.compile(llama())


def convolution() -> Any:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4)).to(
        memory_format=torch.channels_last
    )
    module.register_buffer("seen", torch.arange(3.0), persistent=False)
    return module


MODELS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "llama, tied": lambda: llama(tie_word_embeddings=True),
    "llama, bfloat16": lambda: llama().to(torch.bfloat16),
    "mixtral": mixtral,
    "lora": lora,
    "compiled": compiled,
    "convolution": convolution,
}


def live(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def disturb(model: Any, trained_only: bool) -> None:
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.requires_grad or not trained_only:
                tensor.copy_(torch.rand(tensor.shape) * 10)


@pytest.mark.parametrize("name", MODELS)
def test_every_live_tensor_is_restored(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    disturb(model, trained_only=name == "lora")
    expected = live(model)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad])
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, perdure.State(model=model, optimizer=optimizer), force=True)
        optimizer.step()
        ckpt.wait()
        assert perdure.verify(tmp_path / "checkpoint-1").ok
        fresh = MODELS[name]()
        optimizer = torch.optim.AdamW([one for one in fresh.parameters() if one.requires_grad])
        assert ckpt.restore(perdure.State(model=fresh, optimizer=optimizer)) == 1
    found = live(fresh)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("name", ["llama", "llama, tied", "llama, bfloat16", "mixtral"])
def test_from_pretrained_reads_a_checkpoint(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    perdure.save_model(model, tmp_path / "saved")
    with perdure.Checkpointer(tmp_path / "run") as ckpt:
        ckpt.save(7, perdure.State(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)), force=True)
    checkpoint = tmp_path / "run" / "checkpoint-7"
    for path in (tmp_path / "saved").iterdir():
        if path.name != "perdure.json":
            assert (checkpoint / path.name).read_bytes() == path.read_bytes(), path.name
    loaded = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key


def test_peft_reads_a_checkpoint(tmp_path: Path) -> None:
    model = lora()
    disturb(model, trained_only=True)
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(7, perdure.State(model=model), force=True)
    size = sum(path.stat().st_size for path in (tmp_path / "checkpoint-7").rglob("*.safetensors"))
    assert size < 60_000, "the frozen base is not written again"
    torch.manual_seed(5)
    loaded = peft.PeftModel.from_pretrained(llama(), tmp_path / "checkpoint-7")
    assert torch.equal(
        loaded.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight,
        model.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight,
    )


def test_several_models_and_optimizers(tmp_path: Path) -> None:
    def make() -> tuple[Any, ...]:
        one, other = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
        first, second = (
            torch.optim.AdamW(one.parameters(), fused=True),
            torch.optim.SGD(other.parameters(), momentum=0.9),
        )
        return one, other, perdure.State(model=one, critic=other, optimizer=first, critic_optimizer=second)

    one, other, state = make()
    for module, optimizer in ((one, "optimizer"), (other, "critic_optimizer")):
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        state.components[optimizer].step()
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, state, force=True)
    again, critic, restored = make()
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.restore(restored)
    for module, fresh, optimizer in ((one, again, "optimizer"), (other, critic, "critic_optimizer")):
        for parameter, same in zip(module.parameters(), fresh.parameters(), strict=True):
            assert torch.equal(parameter, same)
            old, new = (part.components[optimizer].state for part in (state, restored))
            for key, value in old[parameter].items():
                assert torch.equal(value, new[same][key])


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "cosine": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
    "one cycle": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20),
    "milestones": lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3, 5]),
    "plateau": lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1),
    "cyclic": lambda optimizer: torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1),
    "of transformers": lambda optimizer: transformers.get_cosine_schedule_with_warmup(optimizer, 3, 12),
    "several": lambda optimizer: torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [torch.optim.lr_scheduler.LinearLR(optimizer), torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)],
        milestones=[4],
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_go_on_as_they_would_have(name: str, tmp_path: Path) -> None:
    def make() -> tuple[Any, Any, perdure.State]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        scheduler = SCHEDULERS[name](optimizer)
        return optimizer, scheduler, perdure.State(optimizer=optimizer, scheduler=scheduler)

    def rates(optimizer: Any, scheduler: Any, count: int) -> list[float]:
        found = []
        for _ in range(count):
            optimizer.step()
            scheduler.step(*([1.0] if name == "plateau" else []))
            found.append(optimizer.param_groups[0]["lr"])
        return found

    optimizer, scheduler, state = make()
    rates(optimizer, scheduler, 5)
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(5, state, force=True)
        ckpt.wait()
        expected = rates(optimizer, scheduler, 6)
        optimizer, scheduler, state = make()
        ckpt.restore(state)
    assert rates(optimizer, scheduler, 6) == expected


def test_the_gradient_scaler_goes_on(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.ones(1))
    scaler.update(8.0)
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(5, perdure.State(scaler=scaler), force=True)
        fresh = torch.amp.GradScaler("cpu")
        ckpt.restore(perdure.State(scaler=fresh))
        assert fresh.state_dict() == scaler.state_dict()
        off = torch.amp.GradScaler("cpu", enabled=False)
        with pytest.raises(perdure.StateMismatch, match="scaler has no scale"):
            ckpt.restore(perdure.State(scaler=off))


def test_what_cannot_be_expressed_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Sampler:
        def state_dict(self) -> dict[str, Any]:
            return {"rule": lambda: 0}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise AssertionError

    with (
        perdure.Checkpointer(tmp_path / "run") as ckpt,
        pytest.raises(perdure.InvalidInput, match=r"sampler: rule is a"),
    ):
        ckpt.save(1, perdure.State(model=torch.nn.Linear(1, 1), sampler=Sampler()), force=True)
    assert perdure.checkpoints(tmp_path / "run") == ()


@pytest.mark.parametrize("component", [3, object(), "model"])
def test_what_has_no_state_is_refused(component: object) -> None:
    with pytest.raises(perdure.InvalidInput, match="state_dict"):
        perdure.State(model=torch.nn.Linear(1, 1), thing=component)


@pytest.mark.parametrize("name", ["llama", "llama, in shards", "lora", "convolution"])
def test_an_export_is_the_model_without_training_state(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "llama, in shards":
        monkeypatch.setattr("perdure.checkpoint.model._SHARD", 30_000)
    model = MODELS[name.partition(",")[0]]()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad])
    with perdure.Checkpointer(tmp_path / "run") as ckpt:
        ckpt.save(7, perdure.State(model=model, optimizer=optimizer), force=True)
    checkpoint, out = tmp_path / "run" / "checkpoint-7", tmp_path / "out"
    command_line(["export", str(checkpoint), str(out)])
    assert perdure.verify(out).ok
    perdure.save_model(model, tmp_path / "saved")
    assert (len(list(checkpoint.glob("*.safetensors"))) > 1) == (name == "llama, in shards")
    expected = {path.relative_to(tmp_path / "saved") for path in (tmp_path / "saved").rglob("*")}
    found = {path.relative_to(out) for path in out.rglob("*")}
    assert found == expected
    for path in sorted(expected):
        if path.suffix == ".safetensors":
            assert (out / path).read_bytes() == (tmp_path / "saved" / path).read_bytes(), path
