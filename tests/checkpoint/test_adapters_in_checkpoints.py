"""Adapters of every kind: resumed bit for bit, read by PEFT, and never with the frozen base among their files."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

import perdure

INPUTS = torch.arange(3, 27).reshape(3, 8)


def llama(**options: Any) -> Any:
    torch.manual_seed(5)  # a base model that is the same each time
    settings = {"num_hidden_layers": 2, **options}
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_attention_heads=4, **settings
    )
    return transformers.LlamaForCausalLM(config)


def gpt2() -> Any:
    """Its linear layers are transposed: `Conv1D`."""
    torch.manual_seed(5)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2))


def mixtral() -> Any:
    """Its experts are parameters, not layers."""
    torch.manual_seed(5)
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    return transformers.MixtralForCausalLM(config)


def resized() -> Any:
    model = llama()
    model.resize_token_embeddings(70)
    return model


def lora(**settings: Any) -> Any:
    settings = {"target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1, **settings}
    return peft.LoraConfig(r=2, task_type="CAUSAL_LM", **settings)


Case = tuple[Callable[[], Any], Any]
TASK = {"task_type": "CAUSAL_LM"}
CASES: dict[str, Case] = {
    "lora": (llama, lora()),
    "tied base": (lambda: llama(tie_word_embeddings=True), lora()),
    "bfloat16": (lambda: llama().to(torch.bfloat16), lora()),
    "dora": (llama, lora(use_dora=True)),
    "rslora, bias": (gpt2, lora(target_modules=["c_attn"], use_rslora=True, bias="all", fan_in_fan_out=True)),
    "conv1d": (gpt2, lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "modules to save": (llama, lora(modules_to_save=["lm_head"])),
    "tied module to save": (
        lambda: llama(tie_word_embeddings=True),
        lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    ),
    "embedding": (llama, lora(target_modules=["embed_tokens", "q_proj"])),
    "trainable tokens": (llama, lora(trainable_token_indices=[3, 5])),
    "trainable tokens, tied": (lambda: llama(tie_word_embeddings=True), lora(trainable_token_indices=[3, 5])),
    "resized, embeddings trained": (resized, lora(modules_to_save=["embed_tokens", "lm_head"])),
    "resized, new tokens trained": (resized, lora(trainable_token_indices=list(range(64, 70)))),
    "experts": (mixtral, lora(target_parameters=["mlp.experts.gate_up_proj"], lora_dropout=0.0)),
    "layers replicated": (llama, lora(layer_replication=[(0, 2), (1, 2)])),
    "pissa": (llama, lora(init_lora_weights="pissa")),
    "adalora": (llama, peft.AdaLoraConfig(total_step=10, target_modules=["q_proj"], **TASK)),
    "ia3": (llama, peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[], **TASK)),
    "loha": (llama, peft.LoHaConfig(r=2, target_modules=["q_proj"], **TASK)),
    "lokr": (llama, peft.LoKrConfig(r=2, target_modules=["q_proj"], **TASK)),
    "vera": (llama, peft.VeraConfig(r=4, target_modules=["q_proj"], **TASK)),
    "oft": (llama, peft.OFTConfig(r=0, oft_block_size=4, target_modules=["q_proj"], **TASK)),
    "ln tuning": (llama, peft.LNTuningConfig(target_modules=["input_layernorm"], **TASK)),
    "prompt tuning": (llama, peft.PromptTuningConfig(num_virtual_tokens=3, **TASK)),
    "prefix tuning": (llama, peft.PrefixTuningConfig(num_virtual_tokens=3, **TASK)),
}


class Run:
    def __init__(self, model: Any, *, of_all: bool = False) -> None:
        self.model = model.train()
        trained = [one for name, one in model.named_parameters() if one.requires_grad or (of_all and "lora_" in name)]
        self.optimizer = torch.optim.AdamW(trained, lr=0.05)
        self.state = perdure.State(model=model, optimizer=self.optimizer)

    def steps(self, count: int) -> list[float]:
        return [self.step() for _ in range(count)]

    def step(self) -> float:
        loss = self.model(input_ids=INPUTS, labels=INPUTS).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def save(self, folder: Path) -> None:
        with perdure.Checkpointer(folder) as ckpt:
            ckpt.save(2, self.state, force=True)

    def restored(self, folder: Path) -> bool:
        with perdure.Checkpointer(folder) as ckpt:
            return ckpt.restore(self.state) == 2


def logits(model: Any) -> torch.Tensor:
    was_training = model.training
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=INPUTS).logits
    model.train(was_training)
    return found


def live(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def assert_same(one: Any, other: Any) -> None:
    found, expected = live(one), live(other)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("case", CASES)
def test_a_run_resumes_exactly_and_peft_reads_the_checkpoint(case: str, tmp_path: Path) -> None:
    base, config = CASES[case]

    def make(seed: int) -> Any:
        model = base()
        torch.manual_seed(seed)
        return peft.get_peft_model(model, copy.deepcopy(config))

    run = Run(make(0))
    run.steps(2)
    run.save(tmp_path / "run")
    when_saved = logits(run.model)
    expected = run.steps(2)
    again = Run(make(1))
    assert again.restored(tmp_path / "run")
    assert again.steps(2) == expected
    assert_same(again.model, run.model)

    checkpoint = tmp_path / "run" / "checkpoint-2"
    perdure.export(checkpoint, tmp_path / "out")
    for folder in (checkpoint, tmp_path / "out"):
        assert torch.equal(logits(peft.PeftModel.from_pretrained(base(), folder)), when_saved), folder


@pytest.mark.parametrize("active", [["default"], ["second"], ["default", "second"]])
def test_several_adapters_are_all_saved_and_the_active_ones_are_active_again(active: list[str], tmp_path: Path) -> None:
    def make(seed: int) -> Any:
        torch.manual_seed(seed)
        model = peft.get_peft_model(llama(), lora())
        model.add_adapter("second", lora(target_modules=["o_proj"], modules_to_save=["lm_head"]))
        return model

    run = Run(make(0), of_all=True)
    run.model.base_model.set_adapter(active)
    run.steps(2)
    run.save(tmp_path)
    when_saved = logits(run.model)
    expected = run.steps(2)
    again = Run(make(1), of_all=True)
    assert again.restored(tmp_path)
    assert again.model.active_adapters == active
    assert again.steps(2) == expected
    assert_same(again.model, run.model)

    perdure.export(tmp_path / "checkpoint-2", tmp_path / "out")
    for folder in (tmp_path / "checkpoint-2", tmp_path / "out"):
        loaded = peft.PeftModel.from_pretrained(llama(), folder)
        loaded.load_adapter(folder / "second", "second")
        loaded.base_model.set_adapter(active)
        assert torch.equal(logits(loaded), when_saved), folder


def test_adapters_that_transformers_attached(tmp_path: Path) -> None:
    def make(seed: int) -> Any:
        model = llama()
        torch.manual_seed(seed)
        model.add_adapter(lora(), "mine")
        model.add_adapter(lora(target_modules=["o_proj"]), "other")
        model.set_adapter("mine")
        return model

    run = Run(make(0))
    run.steps(2)
    run.save(tmp_path)
    when_saved = logits(run.model)
    expected = run.steps(2)
    again = Run(make(1))
    assert again.restored(tmp_path)
    assert again.steps(2) == expected
    assert_same(again.model, run.model)
    loaded = llama()
    loaded.load_adapter(str(tmp_path / "checkpoint-2"))
    assert torch.equal(logits(loaded), when_saved)


def test_qlora(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "base")

    def base() -> Any:
        config = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )
        return transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", quantization_config=config)

    def make(seed: int) -> Any:
        model = peft.prepare_model_for_kbit_training(base(), use_gradient_checkpointing=False)
        torch.manual_seed(seed)
        return peft.get_peft_model(model, lora(target_modules="all-linear"))

    run = Run(make(0))
    run.steps(2)
    run.save(tmp_path)
    expected = run.steps(2)
    again = Run(make(1))
    assert again.restored(tmp_path)
    assert again.steps(2) == expected
    assert_same(again.model, run.model)

    again = Run(make(2))  # not evaluated before: on a CPU that repacks the quantized base
    assert again.restored(tmp_path)
    loaded = peft.PeftModel.from_pretrained(peft.prepare_model_for_kbit_training(base()), tmp_path / "checkpoint-2")
    assert torch.equal(logits(loaded), logits(again.model))

    unquantized = Run(peft.get_peft_model(llama(), lora(target_modules="all-linear")))
    with pytest.raises(perdure.StateMismatch, match=r"base model is another one .*was uint8\[2048, 1\] and is float32"):
        unquantized.restored(tmp_path)


def test_another_base_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    run = Run(peft.get_peft_model(llama(), lora()))
    run.steps(1)
    run.save(tmp_path)
    other = llama()
    with torch.no_grad():
        other.lm_head.weight[-1, -1] += 1  # as of a token that was added, and drawn at random again
    again = Run(peft.get_peft_model(other, lora()))
    before = live(again.model)
    with pytest.raises(perdure.StateMismatch, match=r"another one \(1 of 21 tensors: \S*lm_head.weight has other val"):
        again.restored(tmp_path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in live(again.model).items())
    with perdure.Checkpointer(tmp_path) as ckpt:
        assert ckpt.restore(again.state, strict=False) == 2, "what fits is taken when told so"

    deeper = Run(peft.get_peft_model(llama(num_hidden_layers=3), lora(layers_to_transform=[0, 1])))
    with pytest.raises(perdure.StateMismatch, match=r"layers\.2\.\S+, which is frozen, is not in the checkpoint"):
        deeper.restored(tmp_path)


class Packed(torch.nn.Module):
    """A layer as GPTQ keeps it: its weights are buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.arange(4096, dtype=torch.int32).reshape(64, 64))
        self.register_buffer("scales", torch.ones(64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.qweight * self.scales / 4096)


def test_a_base_whose_packed_weights_are_buffers_is_not_written(tmp_path: Path) -> None:
    def make() -> tuple[Any, perdure.State]:
        torch.manual_seed(5)
        base = torch.nn.Sequential(Packed(), torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64))
        model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["1"]))
        return model, perdure.State(model=model)

    model, state = make()
    model(torch.rand(4, 64))  # which BatchNorm takes note of
    with perdure.Checkpointer(tmp_path) as ckpt:
        ckpt.save(2, state, force=True)
        ckpt.wait()
        assert sum(path.stat().st_size for path in (tmp_path / "checkpoint-2").rglob("*.safetensors")) < 12_000
        again, state = make()
        assert ckpt.restore(state) == 2
        assert_same(again, model)
        other, state = make()
        other.get_base_model()[0].scales[0] = 2
        with pytest.raises(perdure.StateMismatch, match=r"another one \(1 of 6 tensors: \S*0.scales has other values"):
            ckpt.restore(state)


def test_a_base_that_changes_under_way_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Run(peft.get_peft_model(llama(), lora()))
    with perdure.Checkpointer(tmp_path) as ckpt:
        assert ckpt.restore(run.state) == 0
        with torch.no_grad():
            run.model.get_base_model().lm_head.weight.mul_(1.001)
        for step in (1, 2):
            ckpt.save(step, run.state, force=True)
    told = [line for line in caplog.messages if "no longer what the run began with (1 of 21 tensors" in line]
    assert len(told) == 1
    again = Run(peft.get_peft_model(llama(), lora()))
    assert perdure.Checkpointer(tmp_path).restore(again.state) == 2, "it is the base that the run began with"


def test_auto_peft_finds_the_base_by_its_id(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--base/snapshots" / ("ab" * 20)
    llama().save_pretrained(snapshot)
    run = Run(peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(snapshot), lora()))
    run.steps(1)
    run.save(tmp_path / "run")
    when_saved = logits(run.model)
    loaded = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run/checkpoint-2", cache_dir=tmp_path)
    assert torch.equal(logits(loaded), when_saved)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], "all-linear", ["q_proj", "embed_tokens"]])
def test_a_checkpoint_is_hardly_larger_than_what_is_trained(targets: Any, tmp_path: Path) -> None:
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        vocab_size=8192, hidden_size=512, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8
    )
    model = peft.get_peft_model(transformers.LlamaForCausalLM(config), peft.LoraConfig(r=16, target_modules=targets))
    run = Run(model)
    run.steps(1)
    run.save(tmp_path)
    trained = [one for one in model.parameters() if one.requires_grad]
    state = [tensor for values in run.optimizer.state.values() for tensor in values.values()]
    needed = sum(tensor.numel() * tensor.element_size() for tensor in (*trained, *state))
    written = sum(path.stat().st_size for path in (tmp_path / "checkpoint-2").rglob("*") if path.is_file())
    assert needed < written < 1.1 * needed


@pytest.mark.parametrize("saved", ["adapters", "whole"])
def test_with_adapters_and_without_are_two_runs(saved: str, tmp_path: Path) -> None:
    runs = {"adapters": Run(peft.get_peft_model(llama(), lora())), "whole": Run(llama())}
    runs.pop(saved).save(tmp_path)
    (other,) = runs.values()
    before = live(other.model)
    told = {
        "adapters": "holds adapters, and the model has none",
        "whole": "holds a whole model, and the model here has",
    }
    with pytest.raises(perdure.StateMismatch, match=told[saved]):
        other.restored(tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in live(other.model).items())
