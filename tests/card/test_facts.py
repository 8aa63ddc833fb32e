from __future__ import annotations

import pytest

from perdure.card.allowed import is_here, unique
from perdure.card.facts import BaseModel, Dataset, Evaluation, Facts, License
from perdure.card.training import Energy, Method, Training
from perdure.errors import InvalidInput
from perdure.format.hub_id import is_hub_id, looks_like_hub_id


@pytest.mark.parametrize("name", ["gpt2", "openai/gsm8k", "Qwen/Qwen2.5-0.5B-Instruct", "a_b/c.d-e"])
def test_hub_ids(name):
    assert is_hub_id(name) and looks_like_hub_id(name)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "./x", "../x", "~", "~/x", "/abs/x", "a/b/c", "C:\\models\\x", "a\\b", "C:/x", "file:///x",
        "https://huggingface.co/a/b", "None", "none", "a b/c", "a/b\n", "-a/b", "a/b-", "a/.b", "a--b/c", "a..b/c",
        "data/train.jsonl", "train.csv", "out/checkpoint-200", "checkpoint-5", "a/b.git", "a" * 97, "é/x", "a/\x00",
        None, 7,
    ],
)  # fmt: skip
def test_what_is_no_hub_id(name):
    assert not is_hub_id(name) and not looks_like_hub_id(name)


def test_what_exists_on_disk_is_no_id(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("org/name") and not looks_like_hub_id("org/name") and not looks_like_hub_id("org")
    assert is_here("org/name") and not is_here("org/other")
    assert Training(command="python org/name") == Training(command="python org/name"), "read anywhere"


@pytest.mark.parametrize(
    "make",
    [
        lambda: BaseModel(id="/data/llama"),
        lambda: BaseModel(id="org/x", revision=""),
        lambda: BaseModel(id="org/x", revision="a/../../../../elsewhere"),
        lambda: Facts(name="x", license=License(id="foo")),
        lambda: Facts(name="x", languages=("Norwegian",)),
        lambda: Training(hyperparameters={"password": 123456}),
        lambda: Training(hyperparameters={"note": "in /scratch"}),
        lambda: Facts(name=" "),
        lambda: Facts(name="/data/out"),
        lambda: Facts(name="x", repo="./out"),
        lambda: Facts(name="x", datasets=(Dataset(id="data/train.jsonl"),)),
        lambda: Facts(name="x", tags=("sft", "")),
        lambda: Facts(name="x", license=License(id="")),
        lambda: Training(logs={"TensorBoard": "/runs/x"}),
        lambda: Training(hyperparameters={"chat_template_path": "/home/me/t.jinja"}),
        lambda: Training(hyperparameters={"wandb_key": 7}),
        lambda: Training(hyperparameters={"run": "0a" * 20}),
        lambda: Training(hyperparameters={"seed": 2**64}),
        lambda: Training(hyperparameters={str(n): n for n in range(10_001)}),
        lambda: Training(logs={"W&B": "https://wandb.corp.internal/x"}),
        lambda: Training(steps=-5),
        lambda: Training(epochs=float("inf")),
        lambda: Training(seconds=float("nan")),
        lambda: Training(history={"loss": ((1, 1e308), (2, -1e308))}),
        lambda: Energy(kwh=float("inf")),
        lambda: Method(name="SFT", citation="@" * 20_001),
        lambda: Evaluation(metrics={"accuracy": True}),
        lambda: Evaluation(metrics={"accuracy": 10**400}),
    ],
)
def test_facts_hold_no_path_and_nothing_empty(make):
    with pytest.raises(InvalidInput, match="cannot say"):
        make()


def test_unique_keeps_the_order():
    assert unique(["b", " a ", "b", "", "a"]) == ("b", "a")
