from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, TrainingArguments

from perdure.card.card import Card
from perdure.card.facts import License
from perdure.integrations.gather import Told, as_names, card_name, gather, method_name
from perdure.integrations.settings import adapter_settings, hyperparameters

SECRET = "hf_" + "a" * 30


def test_settings_show_neither_paths_nor_secrets_nor_where_the_run_reported(tmp_path):
    args = TrainingArguments(
        output_dir=str(tmp_path),
        run_name="secret-project",
        hub_token=SECRET,
        hub_model_id="me/private",
        lr_scheduler_type="cosine",
        num_train_epochs=2,
        weight_decay=0.1,
        use_cpu=True,
        report_to="none",
        metric_for_best_model="eval_secret",
        eval_strategy="no",
        length_column_name=SECRET,
    )
    shown = hyperparameters(args)
    assert shown["weight_decay"] == 0.1 and shown["lr_scheduler_type"] == "cosine" and shown["num_train_epochs"] == 2
    assert shown["learning_rate"] == args.learning_rate and "max_steps" not in shown and "world_size" not in shown
    text = repr(shown)
    for hidden in (SECRET, str(tmp_path), "secret", "me/private", "hub_", "output", "use_cpu", "report"):
        assert hidden not in text


def test_steps_stand_for_epochs_where_they_decide(tmp_path):
    shown = hyperparameters(TrainingArguments(output_dir=str(tmp_path), max_steps=3, use_cpu=True, report_to="none"))
    assert shown["max_steps"] == 3 and "num_train_epochs" not in shown


@pytest.mark.parametrize(
    ("steps", "shown_as"), [(0.05, {"warmup_ratio": 0.05}), (3, {"warmup_steps": 3}), (0, {"warmup_steps": 0})]
)
def test_a_warm_up_reads_as_the_share_or_the_steps_that_it_is(steps, shown_as, tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path), warmup_steps=steps, use_cpu=True, report_to="none")
    shown = hyperparameters(args)
    assert {name: value for name, value in shown.items() if "warmup" in name} == shown_as


def test_a_setting_with_two_names_is_shown_once(tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path), gradient_checkpointing=True, use_cpu=True, report_to="none")
    shown = hyperparameters(args)
    assert [value for name, value in shown.items() if name.endswith("_checkpointing")] == [True]


def test_a_base_in_the_hubs_cache_is_named_with_its_commit_and_licence(sft, model, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    base = tmp_path / "models--org--base" / "snapshots" / commit
    model.save_pretrained(base)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    for peft in (None, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")):
        trainer = sft(AutoModelForCausalLM.from_pretrained(base), peft=peft, train=False)
        facts = gather(trainer, trainer.model, Told(name="x"), {})
        assert facts.base is not None and facts.license == License(id="apache-2.0")
        assert (facts.base.id, facts.base.revision) == ("org/base", commit)
        assert facts.base.relation == ("adapter" if peft else "finetune")


def test_a_local_base_that_is_itself_described_names_its_own_base(sft, model, tmp_path):
    base = tmp_path / "sft"
    model.save_pretrained(base)
    (base / "README.md").write_text("---\nbase_model:\n- org/first\nlicense: mit\n---\n")
    full = sft(AutoModelForCausalLM.from_pretrained(base), train=False)
    facts = gather(full, full.model, Told(name="x"), {})
    assert facts.base is not None and (facts.base.id, facts.license) == ("org/first", License(id="mit"))
    peft = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    adapter = sft(AutoModelForCausalLM.from_pretrained(base), peft=peft, train=False)
    facts = gather(adapter, adapter.model, Told(name="x"), {})
    assert facts.base is None, "an adapter does not fit the base of its base"
    assert gather(adapter, adapter.model, Told(name="x", base_model="org/mine"), {}).base.id == "org/mine"


def test_a_license_that_names_nothing_is_left_out(sft, model, tmp_path):
    model.save_pretrained(tmp_path / "base")
    for said in ("other", "[a, b]", "'my own terms'", "7"):
        (tmp_path / "base" / "README.md").write_text(f"---\nlicense: {said}\n---\n")
        trainer = sft(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), train=False)
        assert gather(trainer, trainer.model, Told(name="x"), {}).license is None


def test_datasets_are_those_named_that_have_an_id_or_those_downloaded(sft, model, chats, tmp_path):
    trainer = sft(model, train=False)
    told = Told(name="x", datasets=("openai/gsm8k", str(tmp_path), "./data", "data.jsonl", "None"))
    assert gather(trainer, model, told, {}).dataset_ids == ("openai/gsm8k",)
    data = Dataset.from_list([{"a": 1}])
    data.info.download_checksums = {
        "hf://datasets/openai/gsm8k@e53f048/main/train.parquet": {},
        "https://example.org/x.csv": {},
    }
    trainer.train_dataset = trainer.eval_dataset = data
    facts = gather(trainer, model, Told(name="x"), {"eval_loss": 0.5, "eval_num_tokens": 7.0})
    assert facts.dataset_ids == ("openai/gsm8k",)
    card = Card.from_facts(facts, curves=False)
    (measured,) = card.metadata["model-index"][0]["results"]
    assert measured["dataset"]["type"] == "openai/gsm8k" and [one["name"] for one in measured["metrics"]] == [
        "eval_loss"
    ]


def test_an_adapters_modules_are_named_shortly_where_that_says_as_much():
    def layer(wide: bool) -> torch.nn.Module:
        return torch.nn.ModuleDict({"query_projection": torch.nn.Linear(2, 2), "other": torch.nn.Linear(2, 2 + wide)})

    names = [f"layers.{n}.query_projection" for n in range(14)]
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList(layer(False) for _ in range(14))})
    whole = get_peft_model(model, LoraConfig(r=2, target_modules=names))
    assert adapter_settings(whole)["target_modules"] == "query_projection"
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList(layer(True) for _ in range(15))})
    assert "target_modules" not in adapter_settings(get_peft_model(model, LoraConfig(r=2, target_modules=names)))


def test_logs_of_open_runs_are_linked_and_local_ones_are_not(sft, model, monkeypatch):
    trainer = sft(model, train=False)
    run = SimpleNamespace(url="https://wandb.ai/me/run")
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=run))
    experiment = SimpleNamespace(url="file:///offline")
    monkeypatch.setitem(sys.modules, "comet_ml", SimpleNamespace(get_running_experiment=lambda: experiment))
    space = SimpleNamespace(_space_id="me/space", project="p", name="n")
    variable = SimpleNamespace(get=lambda: space)
    monkeypatch.setitem(sys.modules, "trackio.context_vars", SimpleNamespace(current_run=variable))
    training = gather(trainer, model, Told(name="x"), {}).training
    assert training is not None and training.logs == {
        "Weights & Biases": "https://wandb.ai/me/run",
        "Trackio": "https://me-space.hf.space?project=p&runs=n&sidebar=collapsed",
    }
    run.url = None
    variable.get = lambda: None
    training = gather(trainer, model, Told(name="x"), {}).training
    assert training is not None and training.logs == {}


def test_methods_are_told_by_the_trainers_own_class(sft, model):
    trainer = sft(model, train=False)
    trainer.__class__ = type("MyTrainer", (type(trainer),), {})
    assert method_name(trainer) == "SFT"
    assert method_name(SimpleNamespace(_name="SFT")) is None


@pytest.mark.parametrize(
    ("told", "repo", "name"),
    [
        ("Mine", "me/x", "Mine"),
        (None, "me/x", "x"),
        ("./runs/a/", None, "a"),
        ("C:\\runs\\a", None, "a"),
        (None, None, "out"),
    ],
)
def test_names_are_never_paths(told, repo, name, tmp_path):
    assert card_name(told, repo, tmp_path / "out") == name
    assert card_name(None, "", "None") is None


def test_as_names():
    assert (as_names("a"), as_names(["a", "b"]), as_names(None)) == (("a",), ("a", "b"), ())
