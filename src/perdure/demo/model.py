"""A tokenizer, a small causal language model, and how to ask it questions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from perdure.demo.questions import Pair

PAD, TURN, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
_VOCABULARY = 2048
_CONTEXT = 256  # tokens
_BATCH = 64
_LONGEST_ANSWER = 64  # tokens; the answers to learn have fewer than 40

# ChatML, except that the line break belongs to the turn that follows: a conversation ends with END itself.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ ('' if loop.first else '\n') + '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer(pairs: Sequence[Pair]) -> Any:
    """A byte-level BPE tokenizer trained on the conversations it is for: it encodes any text, and decodes it unchanged.

    Returns:
        A `PreTrainedTokenizerFast` with a chat template whose turns end with the EOS token `<|im_end|>`, and a
        padding token of its own: padding with the EOS would teach a model never to stop.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[PAD, TURN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    turns = ((f"user\n{pair.question}", f"assistant\n{pair.answer}") for pair in pairs)
    bpe.train_from_iterator(chain.from_iterable(turns), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=_CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: Any, *, seed: int) -> Any:
    """A Llama of 1.1 million parameters with random weights, the same ones for the same seed."""
    from transformers import AutoModelForCausalLM, LlamaConfig, set_seed

    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return AutoModelForCausalLM.from_config(config)


def answers(model: Any, tokenizer: Any, questions: Sequence[str]) -> list[str]:
    """What the model answers, greedily, to each question asked in a conversation of its own."""
    import torch

    model.eval()
    said: list[str] = []
    for start in range(0, len(questions), _BATCH):
        chats = [[{"role": "user", "content": question}] for question in questions[start : start + _BATCH]]
        prompts = tokenizer.apply_chat_template(
            chats,
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
            tokenizer_kwargs={"padding_side": "left"},  # an answer continues its prompt, not the padding
        )
        with torch.inference_mode():
            output = model.generate(**prompts, max_new_tokens=_LONGEST_ANSWER, do_sample=False)
        said += tokenizer.batch_decode(output[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
    return said
