"""The whole end of training, with the real trainers."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from cards import card_of
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, PeftModelForCausalLM
from tiny_models import make_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Trainer, TrainingArguments

from perdure.checks.verify import verify
from perdure.integrations.finish import finish


def test_sft_leaves_a_model_that_loads_stops_and_is_described(sft, model, tokenizer):
    trainer = sft(model, eval_set=True, gradient_checkpointing=True)
    assert model.config.use_cache is False
    done = finish(trainer, dataset_name="openai/gsm8k", tags=["alignment-handbook"], base_model="org/base")

    folder = Path(trainer.args.output_dir)
    assert done.path == folder and done.problems == () and done.receipt is None and done.push_error is None
    assert verify(folder).ok
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.config.use_cache is True and loaded.generation_config.use_cache is True
    assert tokenizer.eos_token_id in loaded.generation_config.eos_token_id
    assert loaded.config.eos_token_id == tokenizer.eos_token_id
    assert loaded.config.pad_token_id == tokenizer.pad_token_id
    assert model.config.use_cache is False, "training can go on as it was"
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"
    for (name, ours), theirs in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(ours, theirs), name

    metadata, body = card_of(folder)
    assert metadata["library_name"] == "transformers" and metadata["pipeline_tag"] == "text-generation"
    assert metadata["base_model"] == "org/base" and metadata["base_model_relation"] == "finetune"
    assert metadata["datasets"] == ["openai/gsm8k"]
    assert metadata["tags"] == ["trl", "sft", "alignment-handbook"]
    assert "license" not in metadata
    assert "`eval_loss`" in body and "`learning_rate` | `0.001`" in body
    results = json.loads((folder / "all_results.json").read_text())
    assert results["eval_loss"] == done.metrics["eval_loss"] and "train_loss" in results
    assert json.loads((folder / "eval_results.json").read_text())["eval_loss"] == done.metrics["eval_loss"]
    assert "train_loss" in json.loads((folder / "train_results.json").read_text())


def test_the_folder_is_the_one_behind_links_and_the_home(sft, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    done = finish(sft(model, train=False), output_dir="~/link")
    assert done.saved is not None and done.path == done.saved.path == (tmp_path / "real").resolve()
    assert verify("~/link").ok


def test_finishing_twice_leaves_what_one_call_leaves(sft, model):
    trainer = sft(model)
    first = finish(trainer)
    contents = {path.name: path.read_bytes() for path in first.path.iterdir() if path.is_file()}
    finish(trainer)
    again = {path.name: path.read_bytes() for path in first.path.iterdir() if path.is_file()}
    assert again.keys() == contents.keys()
    assert [name for name in again if again[name] != contents[name] and name != "perdure.json"] == []


def test_several_eos_ids_stay_several(sft, model, tokenizer):
    model.generation_config = GenerationConfig(eos_token_id=[0, 1])
    model.config.eos_token_id = [0, 1]
    finish(sft(model, train=False))
    eos = tokenizer.eos_token_id
    assert model.generation_config.eos_token_id == [eos, 0, 1]
    assert model.config.eos_token_id == [eos, 0, 1]


@pytest.mark.parametrize("target", [["q_proj"], "all-linear"])
def test_an_adapter_is_saved_alone_and_gives_bitwise_the_same_logits(sft, tokenizer, tmp_path, target):
    base = tmp_path / "base"
    make_model(tokenizer).save_pretrained(base)
    trainer = sft(
        AutoModelForCausalLM.from_pretrained(base),
        peft=LoraConfig(r=2, lora_alpha=4, target_modules=target, task_type="CAUSAL_LM"),
    )
    done = finish(trainer, base_model="org/base")

    assert done.saved is not None and done.saved.kind == "adapter"
    assert not list(done.path.glob("model*")) and not (done.path / "config.json").exists()
    config = json.loads((done.path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/base"
    metadata, body = card_of(done.path)
    assert metadata["library_name"] == "peft" and metadata["base_model_relation"] == "adapter"
    assert metadata["base_model"] == "org/base"
    assert "AutoPeftModelForCausalLM" in body and "`lora_alpha` | `4`" in body

    reloaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), done.path)
    trained, ids = trainer.model.eval(), torch.arange(20).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(trained(ids).logits, reloaded.eval()(ids).logits)


def test_an_adapter_on_a_nameless_base_names_none(sft, tokenizer, tmp_path):
    base = tmp_path / "base"
    make_model(tokenizer).save_pretrained(base)
    peft = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    done = finish(sft(AutoModelForCausalLM.from_pretrained(base), peft=peft))
    metadata, body = card_of(done.path)
    assert "base_model" not in metadata and "PeftModel.from_pretrained(base" in body
    assert str(base) not in (done.path / "adapter_config.json").read_text()


def test_the_snippet_on_the_card_runs(sft, model, monkeypatch, capsys):
    done = finish(sft(model))
    monkeypatch.chdir(done.path)
    snippet = card_of(done.path)[1].split("```python\n")[1].split("```")[0]
    exec(compile(snippet, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_adapter_snippet_on_the_card_runs(sft, tokenizer, tmp_path, monkeypatch, capsys):
    base = tmp_path / "base"
    make_model(tokenizer).save_pretrained(base)
    peft = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    done = finish(sft(AutoModelForCausalLM.from_pretrained(base), peft=peft), base_model="org/base")
    loader = AutoPeftModelForCausalLM._target_class
    load = loader.from_pretrained
    monkeypatch.setattr(  # what a Hub would answer for org/base
        loader, "from_pretrained", lambda name, *args, **kwargs: load(base if name == "org/base" else name)
    )
    monkeypatch.chdir(done.path)
    snippet = card_of(done.path)[1].split("```python\n")[1].split("```")[0]
    exec(compile(snippet, "README.md", "exec"), {})
    assert capsys.readouterr().out

    generate, eos = PeftModelForCausalLM.generate, tokenizer.eos_token_id

    def generate_eos(model, **inputs):  # a model that learned to end its turn, on a base that ends with another token
        def say_eos(ids, scores):
            return torch.full_like(scores, -torch.inf).index_fill_(1, torch.tensor([eos]), 0.0)

        assert model.generation_config.eos_token_id not in (eos, [eos])
        return generate(model, **inputs, logits_processor=[say_eos])

    monkeypatch.setattr(PeftModelForCausalLM, "generate", generate_eos)
    seen: dict[str, Any] = {}
    exec(compile(snippet, "README.md", "exec"), seen)
    assert seen["output"][0, seen["ids"].shape[1] :].tolist() == [eos]


def test_dpo(model, tokenizer, questions, arguments):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    pairs = Dataset.from_list([{"prompt": q[:40], "chosen": a[:40], "rejected": "No."} for q, a in questions[:6]])
    trainer = DPOTrainer(
        model=model,
        ref_model=make_model(tokenizer),
        args=DPOConfig(**arguments(beta=0.3)),
        train_dataset=pairs,
        processing_class=tokenizer,
    )
    trainer.train()
    done = finish(trainer)
    metadata, body = card_of(done.path)
    assert metadata["tags"] == ["trl", "dpo"]
    assert "huggingface.co/papers/2305.18290" in body and "rafailov2023direct" in body and "`beta` | `0.3`" in body
    AutoModelForCausalLM.from_pretrained(done.path)


def test_grpo(model, tokenizer, questions, arguments):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def reward(completions: list[str], **_: Any) -> list[float]:
        return [float(len(completion)) for completion in completions]

    prompts = Dataset.from_list([{"prompt": q[:30]} for q, _ in questions[:6]])
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=GRPOConfig(**arguments(num_generations=2, max_completion_length=6, per_device_eval_batch_size=2)),
        train_dataset=prompts,
        eval_dataset=prompts.select(range(2)),
        processing_class=tokenizer,
    )
    trainer.train()
    done = finish(trainer, tags="open-r1")
    metadata, body = card_of(done.path)
    assert metadata["tags"] == ["trl", "grpo", "open-r1"]
    assert "eval_reward" in done.metrics and "`eval_reward`" in body
    assert AutoModelForCausalLM.from_pretrained(done.path).config.use_cache is True


def test_a_plain_trainer_beside_checkpoints_notes_and_an_old_card(model, tokenizer, questions, arguments):
    rows = [tokenizer(q[:40])["input_ids"][:8] for q, _ in questions[:4]]
    data = [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in rows]
    settings = arguments(save_strategy="steps", save_steps=1, per_device_train_batch_size=1)
    trainer = Trainer(model=model, args=TrainingArguments(**settings), train_dataset=data, processing_class=tokenizer)
    trainer.train()
    folder = Path(trainer.args.output_dir)
    (folder / "notes.txt").write_text("mine")
    (folder / "README.md").write_text("---\nlicense: mit\n# by hand\nx-team: [a]\n---\n# Ours\n\nWords.\n")
    (folder / "all_results.json").write_text('{"test_accuracy": 0.5}')
    done = finish(trainer)

    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "checkpoint-2" / "model.safetensors").exists()
    metadata, body = card_of(folder)
    assert metadata["license"] == "mit" and metadata["x-team"] == ["a"] and metadata["library_name"] == "transformers"
    assert "tags" not in metadata
    assert body.startswith("# Ours\n\nWords.\n") and "# out" not in body
    assert "# by hand\n" in (folder / "README.md").read_text()
    assert json.loads((folder / "all_results.json").read_text())["test_accuracy"] == 0.5
    assert verify(done.path).ok


def test_what_was_done_is_one_line(sft, model, caplog):
    with caplog.at_level(logging.INFO, logger="perdure"):
        done = finish(sft(model, train=False))
    assert str(done) == f"saved {done.path}" and repr(done) == f"<Finished: {done}>"
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.INFO] == [str(done)]


def test_a_plain_module(arguments):
    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Linear(1, 1)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": (self.slope(x) - labels).square().mean()}

    data = [{"x": torch.tensor([float(n)]), "labels": torch.tensor([2.0 * n])} for n in range(4)]
    trainer = Trainer(model=Line(), args=TrainingArguments(**arguments()), train_dataset=data)
    trainer.train()
    done = finish(trainer)
    assert done.saved is not None and done.saved.kind == "module" and done.problems == ()
    card = (done.path / "README.md").read_text()
    assert "library_name" not in card and 'load_file("model.safetensors")' in card
