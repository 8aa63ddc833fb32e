"""Small models and helpers that several tests of saving share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def llama(seed: int = 0, **settings: Any) -> Any:
    """A causal language model of about 20 kB, random but the same for one seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(**{
        "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, **settings,
    })  # fmt: skip
    return LlamaForCausalLM(config).eval()


def tokenizer() -> Any:
    """A fast tokenizer of 64 words, with special tokens and a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(60))]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}</s>{% endfor %}"
    return fast


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones too: path → bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path) -> list[Path]:
    """What an unfinished save has left in `folder` or beside it."""
    return [*folder.parent.glob(".*"), *folder.rglob(".perdure-*")]


def python(
    code: str, *arguments: object, through: Sequence[str] = (), timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, with these helpers importable and its arguments in `sys.argv`.

    `through` is a command that starts the interpreter.
    """
    preamble = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    return subprocess.run(
        [*through, sys.executable, "-c", preamble + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
