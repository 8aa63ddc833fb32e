"""The options of a `Checkpointer`, cross-checked when it is made."""

from __future__ import annotations

from pathlib import Path

from perdure.checkpoint import catalog
from perdure.checkpoint.policy import check_policies
from perdure.checkpoint.snapshot import WRITER_BUDGET
from perdure.errors import InvalidInput


def check_options(
    run: Path, *, save: object, keep: object, when_busy: object, memory: object, tokenizer: object
) -> None:
    """Refuse what cannot be meant.

    Raises:
        InvalidInput: One of them is of another kind, or out of bounds; or `run` is a checkpoint.
    """
    check_policies(save, keep)
    if when_busy not in ("wait", "skip"):
        raise InvalidInput(f'when_busy={when_busy!r} is neither "wait" nor "skip".')
    if isinstance(memory, bool) or not isinstance(memory, int | float):
        raise InvalidInput(f"memory={memory!r} is no number of bytes.", hint="128 MiB are memory=128 * 2**20.")
    if memory < WRITER_BUDGET:
        raise InvalidInput(f"memory={memory} is too little.", hint=f"Allow {WRITER_BUDGET} bytes at least.")
    if tokenizer is not None and not hasattr(tokenizer, "save_pretrained"):
        raise InvalidInput(
            f"tokenizer={tokenizer!r} is no tokenizer or processor.",
            hint='Pass the object, as tokenizer=AutoTokenizer.from_pretrained("…").',
        )
    if catalog.is_checkpoint(run):
        raise InvalidInput(
            f"{run} is a checkpoint, not the folder of a run; nothing was done.",
            hint=f"Name the folder that it is in: {str(run.parent)!r}",
        )
