"""How to load a model, as code that runs as printed."""

from __future__ import annotations

from keyword import iskeyword

from perdure.card.facts import Facts
from perdure.card.markdown import code, fence

_HERE = "."  # loaders take the current folder by this name
_ASK_CHAT = 'messages = [{"role": "user", "content": "What can you tell me?"}]'


def usage(facts: Facts) -> str:
    """Markdown that says how to load and run the model; empty where nothing certain can be said."""
    if facts.weights.kind == "adapter":
        snippet = _adapter(facts)
        if not snippet:
            return (
                "Load the model that this adapter was trained on as `base`, then add the adapter to it with "
                f"{code(f'peft.PeftModel.from_pretrained(base, {_place(facts)})')}."
            )
    elif facts.weights.kind == "model":
        snippet = _model(facts)
    else:
        snippet = _module(facts)
    if not snippet:
        return ""
    block = fence("python", snippet)
    if facts.repo is not None:
        return block
    return "Run this in the folder that holds the model:\n\n" + block


def _place(facts: Facts) -> str:
    """The first arguments of a loader. Neither an id nor a branch has a quote or a backslash."""
    return f'"{facts.repo}"{_revision(facts)}' if facts.repo is not None else f'"{_HERE}"'


def _revision(facts: Facts) -> str:
    return f', revision="{facts.revision}"' if facts.revision is not None else ""


def _trusting(facts: Facts) -> str:
    """What a model that brings code of its own is not loaded without."""
    return ", trust_remote_code=True" if facts.weights.own_code else ""


def _model(facts: Facts) -> str:
    tag, architecture = facts.weights.pipeline_tag, facts.weights.architecture
    place, has_tokenizer = _place(facts) + _trusting(facts), facts.weights.tokenizer
    if tag == "text-generation" and has_tokenizer:
        question, asked = (_ASK_CHAT, "messages") if facts.weights.chat else ('prompt = "Once upon a time"', "prompt")
        return (
            "from transformers import pipeline\n\n"
            f'generator = pipeline("text-generation", model={place})\n'
            f"{question}\n"
            f"answer = generator({asked}, max_new_tokens=128, return_full_text=False)\n"
            'print(answer[0]["generated_text"])'
        )
    if tag in ("text-classification", "token-classification") and has_tokenizer:
        return (
            "from transformers import pipeline\n\n"
            f'classifier = pipeline("{tag}", model={place})\n'
            'print(classifier("A sentence to classify."))'
        )
    # A class of the model's own code is none of the library's.
    if facts.weights.own_code or architecture is None or not architecture.isidentifier() or iskeyword(architecture):
        return ""
    return f"from transformers import {architecture}\n\nmodel = {architecture}.from_pretrained({place})"


def _module(facts: Facts) -> str:
    file = facts.weights.file
    if file is None:
        return ""
    if facts.repo is None:
        return f'from safetensors.torch import load_file\n\nweights = load_file("{file}")'
    return (
        "from huggingface_hub import hf_hub_download\n"
        "from safetensors.torch import load_file\n\n"
        f'weights = load_file(hf_hub_download("{facts.repo}", "{file}"{_revision(facts)}))'
    )


def _adapter(facts: Facts) -> str:
    if facts.base is None or facts.weights.pipeline_tag != "text-generation":
        return ""
    beside = facts.weights.tokenizer
    tokens = _place(facts) if beside else f'"{facts.base.id}"'
    if facts.weights.chat and beside:
        question = (
            f"{_ASK_CHAT}\n"
            "inputs = tokenizer.apply_chat_template(\n"
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n'
            ")"
        )
    else:
        question = 'inputs = tokenizer("Once upon a time", return_tensors="pt")'
    return (
        "from peft import AutoPeftModelForCausalLM\n"
        "from transformers import AutoTokenizer\n\n"
        f"model = AutoPeftModelForCausalLM.from_pretrained({_place(facts)}{_trusting(facts)})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({tokens}{_trusting(facts)})\n"
        f"{question}\n"
        'ids, mask = inputs["input_ids"], inputs["attention_mask"]\n'
        # The base's own generation settings may stop at another token than the adapter learned to end with.
        "output = model.generate(\n"
        "    input_ids=ids, attention_mask=mask,\n"
        "    eos_token_id=tokenizer.eos_token_id, max_new_tokens=128,\n"
        ")\n"
        "print(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))"
    )
