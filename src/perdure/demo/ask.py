"""Plain transformers, no perdure: pull a model from a Hub and let it answer one question.

HF_ENDPOINT and HF_TOKEN in the environment say where it lies; then: python ask.py REPO REVISION QUESTION
"""

import json
import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

LIMIT = 64  # tokens; the answers to learn have fewer than 40


def main(repo: str, revision: str, question: str) -> None:
    """Print the answer, and why it ended, as JSON."""
    tokenizer = AutoTokenizer.from_pretrained(repo, revision=revision)
    model = AutoModelForCausalLM.from_pretrained(repo, revision=revision)

    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    output = model.generate(**prompt, max_new_tokens=LIMIT)[0, prompt["input_ids"].shape[1] :]

    eos = model.generation_config.eos_token_id
    report = {
        "question": question,
        "answer": tokenizer.decode(output, skip_special_tokens=True),
        "tokens": len(output),
        "stopped_at_eos": len(output) < LIMIT and output[-1].item() in (eos if isinstance(eos, list) else [eos]),
        "used_perdure": "perdure" in sys.modules,
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
