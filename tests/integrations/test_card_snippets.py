"""Every snippet that a card prints runs as printed: in the folder before a push, by the repository's id after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tiny_models import make_model
from transformers import LlamaForSequenceClassification, LlamaForTokenClassification, LlamaModel

import perdure
from perdure import BaseModel, Card, Facts, Weights
from perdure.hub.server import HubServer

# In one process, since what takes time is to import transformers.
RUN = """
import json, os, re, sys
import perdure
folders, places = json.loads(sys.argv[1])
for repo, folder in folders.items():
    perdure.publish(folder, repo)
for name, place in places.items():
    os.chdir(place)
    (snippet,) = re.findall(r"```python\\n(.*?)```", open("README.md").read(), re.DOTALL)
    print("##", name, flush=True)
    exec(compile(snippet, name, "exec"), {})
"""


def adapter_of(base: Any, facts: Facts, id: str) -> tuple[Any, Facts]:
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    weights = replace(facts.weights, kind="adapter")
    return adapted, Facts(name="x", weights=weights, bases=(BaseModel(id=id, relation="adapter"),))


def test_every_snippet_runs_as_printed(tokenizer, tmp_path):
    chat = Facts(name="x", weights=Weights(pipeline_tag="text-generation", chat=True))
    plain = replace(chat, weights=replace(chat.weights, chat=False))
    bare = replace(plain.weights, tokenizer=False, architecture="LlamaForCausalLM")
    without_tokenizer = replace(plain, weights=bare)
    model = make_model(tokenizer)
    small = {**model.config.to_dict(), "num_labels": 2, "pad_token_id": tokenizer.pad_token_id}
    config = type(model.config)(**{name: value for name, value in small.items() if name != "architectures"})
    made: dict[str, tuple[Any, Facts]] = {
        "chat": (model, chat),
        "plain": (model, plain),
        "classifier": (
            LlamaForSequenceClassification(config),
            Facts(name="x", weights=Weights(pipeline_tag="text-classification")),
        ),
        "tokens": (
            LlamaForTokenClassification(config),
            Facts(name="x", weights=Weights(pipeline_tag="token-classification")),
        ),
        "headless": (LlamaModel(config), Facts(name="x", weights=Weights(architecture="LlamaModel"))),
        "module": (torch.nn.Linear(2, 2), Facts(name="x", weights=Weights(kind="module"))),
        "chat-adapter": adapter_of(make_model(tokenizer), chat, "me/chat"),
        "plain-adapter": adapter_of(make_model(tokenizer), plain, "me/plain"),
        "bare-adapter": adapter_of(make_model(tokenizer), without_tokenizer, "me/plain"),
        "bare": (model, without_tokenizer),
    }
    token = "hf_tokenOfMe1234567890"
    folders, places = {}, {}
    with HubServer(tmp_path / "hub", user="me", token=token) as server:
        for name, (one, facts) in made.items():
            folder = tmp_path / name
            is_adapter = facts.weights.kind == "adapter"
            perdure.save_model(
                one,
                folder,
                tokenizer=tokenizer if facts.weights.tokenizer and facts.weights.kind != "module" else None,
                base_model=facts.bases[0].id if is_adapter else None,
                extra_files=Card.from_facts(facts).files(),
            )
            places[f"{name} in its folder"] = str(folder)
            pushed = Card.from_facts(replace(facts, repo=f"me/{name}"), existing=Card.load(folder))
            assert f'"me/{name}"' in pushed.text
            pushed_folder = tmp_path / "pushed" / name
            pushed_folder.mkdir(parents=True)
            pushed.save(pushed_folder)
            places[f"{name} by its id"] = str(pushed_folder)
            folders[f"me/{name}"] = str(folder)
        said = run(folders, places, HF_ENDPOINT=server.url, HF_TOKEN=token, HF_HOME=str(tmp_path / "home"))
    assert said.count("## ") == 2 * len(made) and "'label'" in said


def run(*where: dict[str, str], **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, json.dumps(where)],
        env={**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(Path(perdure.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_a_card_by_peft_is_taken_over(tokenizer, tmp_path):
    adapted, facts = adapter_of(make_model(tokenizer), Facts(name="x"), "org/base")
    adapted.save_pretrained(tmp_path)
    page = tmp_path / "README.md"
    assert "[More Information Needed]" in page.read_text()
    page.write_text(page.read_text().replace("## Uses\n", "## Uses\n\nFor arithmetic.\n", 1))
    card = Card.from_facts(facts, existing=Card.load(tmp_path))
    assert "## Uses\n\nFor arithmetic." in card.text and "Needed" not in card.text and "Out-of-Scope" not in card.text
    assert card.metadata["base_model"] == "org/base" and {finding.kind for finding in card.check()} == {"missing"}
