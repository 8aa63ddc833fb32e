"""Cards of every kind of model, with hostile names in every field, mean the same to all who read them."""

from __future__ import annotations

import http.client
import io
import json
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import yaml
from huggingface_hub import ModelCard
from ruamel.yaml import YAML

from perdure import (
    BaseModel,
    Card,
    Dataset,
    Energy,
    Evaluation,
    Facts,
    Hardware,
    License,
    Method,
    Quantization,
    Training,
    Weights,
)
from perdure.hub.server import HubServer

HOSTILE = (
    "no", "On", "1e3", "0123", "0x1F", "1_000", "12:30", "1:30:00", "2026-11-21", "y", "=", "<<", ".inf",
    "key: value # not", "- a", "a\n---\ninjected: true\n---\n# b", "--> <b>x</b> <!--", "<!-- /perdure:summary -->",
    "'q\" \\ b", "{{ 7*7 }}", "{% raw %}", "🦜 café\u2028x", "\u202ereversed\x07", "`a` |b| [x](javascript:alert(1))",
    "&amp; *x &y !tag %z @w",
)  # fmt: skip
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "q_proj, v_proj"}
CAUSAL = Weights(architecture="Qwen2ForCausalLM", pipeline_tag="text-generation", parameters=7, dtypes={"bfloat16": 7})
ADAPTER = replace(CAUSAL, kind="adapter", parameters=None, dtypes={})
KINDS = {
    "sft": (CAUSAL, "finetune", 1, Method(name="SFT", library="TRL")),
    "dpo": (CAUSAL, "finetune", 1, Method(name="DPO", library="TRL", title="Direct", arxiv="2305.18290")),
    "grpo": (CAUSAL, "finetune", 1, Method(name="GRPO", library="TRL", title="Deep", arxiv="2402.03300")),
    "lora": (ADAPTER, "adapter", 1, Method(name="SFT", library="TRL")),
    "qlora": (replace(ADAPTER, quantization=Quantization(method="nf4", bits=4)), "adapter", 1, None),
    "merged": (CAUSAL, "merge", 3, None),
    "quantized": (replace(CAUSAL, quantization=Quantization(method="gptq", bits=4)), "quantized", 1, None),
    "from-a-local-base": (CAUSAL, "finetune", 0, Method(name="SFT", library="TRL")),
}


def facts_of(kind: str, wild: str = "plain") -> Facts:
    weights, relation, bases, method = KINDS[kind]
    settings = {wild: wild, "learning_rate": 1e-5}
    training = Training(
        method=method and replace(method, title=method.title and f"{wild} {method.title}"),
        hyperparameters=settings, adapter={**LORA, wild: wild} if weights.kind == "adapter" else {},
        results={wild: 1e-5},
        hardware=Hardware(name=wild, count=2, memory=2**36), energy=Energy(kwh=1.5, co2_kg=1e-5, country=wild),
        history={wild: ((1, 1.0), (2, 0.5))}, logs={wild: "https://wandb.ai/me/run_(1)"},
    )  # fmt: skip
    measured = Dataset(id="org/evals", config=wild, split=wild, use="evaluation")
    return Facts(
        name=wild, weights=weights, bases=tuple(BaseModel(id=f"org/b{i}", relation=relation) for i in range(bases)),
        datasets=(Dataset(id="no/on", split=wild, rows=3), Dataset(config=wild), measured), tags=("trl", wild),
        license=License(id="other", name=wild, link="https://x.org/license"), languages=("no", "en"),
        training=training, versions={wild: wild},
        evaluation=(Evaluation(metrics={wild: 1e-5, "exact": 1}, dataset=measured),),
    )  # fmt: skip


def readings(text: str) -> list[object]:
    """The front matter, as YAML 1.1 and 1.2 read it, and the Hub's own client."""
    front = text.split("---\n")[1]
    newer = YAML(typ="safe", pure=True)
    newer.version = (1, 2)
    return [yaml.safe_load(front), newer.load(io.StringIO(front)), ModelCard(text).data.to_dict()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_reads_the_same_of_every_kind(kind):
    for wild in HOSTILE if kind == "lora" else HOSTILE[::9]:
        facts = facts_of(kind, wild)
        card = Card.from_facts(facts, curves=False)
        old, new, client = readings(card.text)
        assert old == new == card.metadata and "injected" not in old
        assert client.pop("model-index")[0]["results"][0]["metrics"][0]["value"] == 1e-5
        (entry,) = old.pop("model-index")
        assert entry["name"] == wild and client == old
        assert old["tags"] == ["trl", wild.strip()] and old["language"] == ["no", "en"]
        bases = [base.id for base in facts.bases]
        assert old.get("base_model") == (bases if len(bases) > 1 else bases[0] if bases else None)
        assert old.get("base_model_relation") == (KINDS[kind][1] if bases else None)
        again = ModelCard(str(ModelCard(card.text)))
        assert again.data.to_dict() == ModelCard(card.text).data.to_dict()
        assert Card.from_facts(facts, existing=card, curves=False) == card
        assert not card.check() or {one.kind for one in card.check()} <= {"path"}


def test_the_hub_accepts_every_kind_without_a_warning(tmp_path):
    with HubServer(tmp_path, user="me", token="hf_tokenOfMe1234567890") as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        for wild in HOSTILE:
            for kind in KINDS if wild == "no" else ["sft"]:
                content = Card.from_facts(facts_of(kind, wild), curves=False).text
                body = json.dumps({"repoType": "model", "content": content})
                connection.request("POST", "/api/validate-yaml", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                said = json.loads(answer.read())
                assert answer.status == 200 and not said["errors"] and not said["warnings"], (kind, wild, said)
