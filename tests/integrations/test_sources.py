"""Where a card's facts come from: a Hub's datasets, trackers, packed weights; and what stays out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import make_model

import perdure
from perdure.card.facts import Quantization
from perdure.card.training import Energy
from perdure.errors import InvalidInput
from perdure.hub.server import HubServer
from perdure.integrations.data import datasets_of
from perdure.integrations.gather import card_name
from perdure.integrations.trackers import energy, logs

SECRET = "hf_" + "a" * 30
_OF_A_HUB = """
import json, sys
from datasets import Dataset, DatasetDict, load_dataset
from perdure.integrations.data import datasets_of
from perdure.card.codec import to_document
rows = Dataset.from_dict({"text": [f"row {i}" for i in range(100)]})
DatasetDict(train=rows.select(range(90)), test=rows.select(range(90, 100))).push_to_hub("me/rows", private=True)
rows.select(range(5)).push_to_hub("me/rows", config_name="small")
from huggingface_hub import HfApi
commit = HfApi().dataset_info("me/rows").sha
from pathlib import Path
from transformers import AutoModelForCausalLM, GPT2Config
import perdure
folder = Path(sys.argv[1])
api = HfApi()
tiny = GPT2Config(n_embd=4, n_layer=1, n_head=1, vocab_size=9)
AutoModelForCausalLM.from_config(tiny).save_pretrained(folder / "base")
(folder / "base" / "README.md").write_text("---\\nlicense: mit\\nlanguage: en\\n---\\n")
api.create_repo("me/base")
base = api.upload_folder(repo_id="me/base", folder_path=folder / "base").oid
model = AutoModelForCausalLM.from_pretrained("me/base")
made = perdure.describe(model, name="x")
print(json.dumps([base, made.base.revision, made.license.id, made.languages]))
model.save_pretrained(folder / "mine")
(folder / "mine" / "README.md").write_text("---\\nbase_model: me/base\\n---\\n")
stream = load_dataset("me/rows", split="train", streaming=True).map(lambda row: row).shuffle(buffer_size=3)
mapped = load_dataset("me/rows", split="train").map(lambda row: {"n": 1}).train_test_split(0.1, seed=0)["train"]
many = {"a": load_dataset("me/rows", "small", split="train[:3]"), "b": load_dataset("me/rows", split="test")}
print(json.dumps([commit, *([to_document(one) for one in datasets_of(data)] for data in (stream, mapped, many))]))
"""


def test_datasets_and_bases_of_a_hub_are_known_by_their_commit(tmp_path):
    with HubServer(tmp_path / "hub", user="me", token="hf_tokenOfMe1234567890") as server:
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | {
            "HF_ENDPOINT": server.url, "HF_TOKEN": str(server.token), "HF_HOME": str(tmp_path / "home"),
        }  # fmt: skip
        command = [sys.executable, "-c", _OF_A_HUB, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        card = [sys.executable, "-m", "perdure", "card", "mine", "--dry-run"]
        shown = subprocess.run(card, cwd=tmp_path, env=environment | {"HF_HOME": str(tmp_path / "another")},
                               capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    base, *made = json.loads(done.stdout.splitlines()[-2])
    assert made == [base, "mit", ["en"]], "the commit that was loaded, and what its card says"
    assert "+license: mit\n" in shown.stdout and "+- en\n" in shown.stdout, shown
    commit, stream, mapped, many = json.loads(done.stdout.splitlines()[-1])
    known = {"id": "me/rows", "split": "train", "revision": commit}
    assert stream == [known]
    assert mapped == [{**known, "rows": 81}]
    assert many == [
        {**known, "config": "small", "split": "train[:3]", "rows": 3},
        {**known, "split": "test", "rows": 10},
    ]


def test_data_of_ones_own_is_known_by_its_rows_wherever_it_lies(tmp_path):
    rows = [{"text": f"row {n}", "n": n} for n in range(5)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = Dataset.from_json(str(tmp_path / "mine.jsonl"), cache_dir=str(tmp_path / "cache"))
    (made,), (loaded,) = datasets_of(Dataset.from_list(rows)), datasets_of(read)
    assert made.fingerprint == loaded.fingerprint and (loaded.rows, loaded.split, loaded.id) == (5, "train", None)
    (other,) = datasets_of(Dataset.from_list(rows).select([0, 1, 2, 4, 3]))
    assert other.fingerprint != made.fingerprint
    assert datasets_of(rows)[0].rows == 5 and datasets_of(None) == () and datasets_of(iter(rows)) == ()
    assert datasets_of(rows, named=["org/data"])[0].id == "org/data"


def test_links_and_energy_come_from_trackers_that_are_open(monkeypatch):
    fluent = SimpleNamespace(_last_active_run_id=SimpleNamespace(get=lambda: "r1"), _active_experiment_id="7")
    server = SimpleNamespace(get_tracking_uri=lambda: "https://flow.example.org/", active_run=lambda: None)
    monkeypatch.setitem(sys.modules, "mlflow", server)
    monkeypatch.setitem(sys.modules, "mlflow.tracking.fluent", fluent)
    board = SimpleNamespace(tb_writer=SimpleNamespace(repo_id="me/x"))
    assert logs([board]) == {
        "MLflow": "https://flow.example.org/#/experiments/7/runs/r1",
        "TensorBoard": "https://huggingface.co/me/x/tensorboard",
    }
    comet = SimpleNamespace(get_running_experiment=lambda: SimpleNamespace(url="https://www.comet.com/me/x/r1"))
    monkeypatch.setitem(sys.modules, "comet_ml", comet)
    assert logs()["Comet"] == "https://www.comet.com/me/x/r1"
    monkeypatch.delitem(sys.modules, "comet_ml")
    run = SimpleNamespace(run=SimpleNamespace(url=f"https://wandb.ai/me/x?apiKey={'0a' * 20}"))
    monkeypatch.setitem(sys.modules, "wandb", run)
    assert logs()["Weights & Biases"] == "https://wandb.ai/me/x"
    run.run.url = "https://wandb.corp.internal/me/x"
    for local in (
        "file:///runs",
        "https://10.1.2.3",
        "http://localhost:5000",
        f"https://me:{SECRET}@flow.example.org",
        "sqlite:///x.db",
    ):
        server.get_tracking_uri = lambda local=local: local
        assert logs() == {}
    data = SimpleNamespace(energy_consumed=0.5, emissions=0.03, country_name="France")
    tracker = type("Tracker", (), {"__module__": "codecarbon.emissions_tracker"})()
    tracker.final_emissions_data = data
    assert (
        energy([SimpleNamespace(tracker=tracker)])
        == energy([tracker])
        == Energy(kwh=0.5, co2_kg=0.03, country="France")
    )
    running = type("Tracker", (), {"__module__": "codecarbon.emissions_tracker"})()
    running._total_energy, running._total_emissions = SimpleNamespace(kWh=0.25), 0.0
    assert energy([running]) == Energy(kwh=0.25) and energy([None, SimpleNamespace()]) is None


def test_a_plain_loop_is_described(tokenizer, tmp_path):
    model = make_model(tokenizer)
    logged = [{"step": n, "loss": 1 / n, 7: "x", "note": "y"} for n in range(1, 1001)] + [
        {"step": 1001, "late": float("nan")}
    ]
    facts = perdure.describe(
        model, name="mine", tokenizer=tokenizer, datasets=["org/data", Dataset.from_list([{"a": 1}])], history=logged,
        hyperparameters={"lr": 1e-4, "seed": 0, "out": str(tmp_path), "api_key": "x1", "password": 7, 3: 4, "": ""},
        evaluation={"accuracy": 0.5, "late": float("nan")}, steps=1001, tags=["mine", ""], license="mit",
    )  # fmt: skip
    training = facts.training
    assert training is not None and training.hyperparameters == {"lr": 1e-4, "seed": 0}
    assert list(training.history) == ["loss"] and len(training.history["loss"]) == 500
    assert training.history["loss"][0] == (1, 1.0) and training.history["loss"][-1] == (1000, 1 / 1000)
    assert [one.id for one in facts.datasets] == ["org/data", None] and facts.tags == ("mine",)
    assert facts.weights.pipeline_tag == "text-generation" and facts.versions["PyTorch"] == torch.__version__
    perdure.Card.from_facts(facts).save(tmp_path)
    assert str(tmp_path) not in (tmp_path / "README.md").read_text()
    assert perdure.describe(torch.nn.Linear(2, 2), name="/data/runs/mine").name == "mine"
    assert perdure.describe(model, name="x", datasets=[[1, 2], [3]]).datasets[0].rows == 2


def test_numbers_of_numpy_and_tensors_count_and_nothing_fails_when_training_is_over(monkeypatch):
    class Run:
        @property
        def url(self) -> str:
            raise RuntimeError("the run is closed")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=Run()))
    logged = [{"step": np.int64(1), "loss": np.float32(2)}, {"step": np.float64(2), "loss": torch.tensor(1.5)}, None]
    facts = perdure.describe(
        torch.nn.Linear(2, 2), name="x", history=[*logged, {"step": 3, "loss": 10**400}, {"step": 4, "loss": 1e308}],
        evaluation={"a": np.float64(0.5), "b": np.float32(0.25), "c": torch.tensor(3), "d": torch.ones(2)},
        tokens=np.int64(5), seconds=float("nan"), steps=-1, hyperparameters={"seed": 2**64 - 1, "lr": np.float32(0.5)},
    )  # fmt: skip
    training = facts.training
    assert training is not None and training.history == {"loss": ((1, 2), (2, 1.5))}
    assert (training.tokens, training.seconds, training.steps) == (5, None, None)
    assert training.hyperparameters == {"seed": 2**64 - 1, "lr": 0.5}
    assert facts.evaluation[0].metrics == {"a": 0.5, "b": 0.25, "c": 3}
    assert perdure.Facts.from_json(facts.to_json()) == facts
    card = perdure.Card.from_facts(facts, curves=False).with_metadata({"pipeline_tag": "text-generation"})
    assert "value: 0.5" in card.with_results({"a": np.float64(0.5)}, dataset="org/data").text
    assert "## Training" not in perdure.Card.from_facts(perdure.describe(torch.nn.Linear(2, 2), name="x")).text


_WILD = st.text(max_size=30) | st.sampled_from([
    "/home/me/data", "in /scratch", "~/x", "--out=/data/x", "C:\\x", SECRET, f"key {SECRET}", "https://me:word@x.org",
    "a\n---\nb: 1",
    "<script>x</script>", "![x](y)", "None", "", "\ud800", "\u202e", 1.5, float("nan"), None, ["a", "/etc/x"],
    ["a", "/scratch"], b"x",
])  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hyperparameters=st.dictionaries(_WILD.filter(lambda name: not isinstance(name, list)), _WILD, max_size=4),
    tags=st.lists(_WILD.filter(lambda tag: isinstance(tag, str)), max_size=3),
    history=st.lists(st.dictionaries(st.sampled_from(["step", "loss", "/x/y/z", 4]), _WILD, max_size=3), max_size=3),
    name=st.text(max_size=20) | st.sampled_from(["/data/x", SECRET, "a\n# b", "None", ""]),
)
def test_neither_secret_nor_path_comes_onto_a_card(hyperparameters, tags, history, name):
    model = torch.nn.Linear(2, 2)
    if card_name(name) is None:
        with pytest.raises(InvalidInput, match="no name"):
            perdure.describe(model, name=name)
        name = "x"
    facts = perdure.describe(model, name=name, hyperparameters=hyperparameters, tags=tags, history=history)
    said = perdure.Card.from_facts(facts, curves=False).text + facts.to_json()
    for hidden in (SECRET, "/home/me", "/data/x", "~/x", "C:\\\\x", "me:word", "/etc/x", "/scratch"):
        assert hidden not in said
    assert perdure.Facts.from_json(facts.to_json()).to_json() == facts.to_json()


@pytest.mark.parametrize("adapter", [True, False])
def test_weights_of_four_bits(adapter, tokenizer, tmp_path):
    pytest.importorskip("bitsandbytes")
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    commit = "0123456789abcdef0123456789abcdef01234567"
    base = tmp_path / "models--org--base" / "snapshots" / commit
    make_model(tokenizer).save_pretrained(base)
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: my-terms\nlicense_link: LICENSE\n---\n")
    packing = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=packing)
    if adapter:
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    facts = perdure.describe(model, name="x")
    assert facts.weights.quantization == Quantization(method="bitsandbytes nf4", bits=4)
    assert facts.base is not None and (facts.base.id, facts.base.revision) == ("org/base", commit)
    assert facts.base.relation == ("adapter" if adapter else "quantized")
    assert facts.license is not None and facts.license.link == "https://huggingface.co/org/base/blob/main/LICENSE"
    assert bool(facts.weights.parameters) is adapter


def test_an_adapter_that_was_merged_is_a_finetune_of_its_base(tokenizer, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = tmp_path / "models--org--base" / "snapshots" / ("0" * 40)
    make_model(tokenizer).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    merged = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).merge_and_unload()
    facts = perdure.describe(merged, name="x")
    assert facts.base is not None and (facts.base.id, facts.base.relation) == ("org/base", "finetune")
    assert facts.weights.kind == "model" and facts.training is not None and not facts.training.adapter
