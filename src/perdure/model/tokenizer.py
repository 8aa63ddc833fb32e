"""The tokenizer, or multimodal processor, beside the weights."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

from perdure.format.hub_id import hub_id

_CONFIGS = ("tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
# What loading offline leaves in the configuration: true of this machine, and wrong on every other.
_OF_THIS_MACHINE = ("is_local", "local_files_only")


def write_tokenizer(tokenizer: Any, folder: Path) -> list[str]:
    """Write a tokenizer or processor with its chat templates, whole or not at all.

    Args:
        tokenizer: Anything with `save_pretrained`.
        folder: A staged folder; a folder beside it is used on the way.

    Returns:
        A warning where it cannot be written: that never costs the weights.

    Raises:
        OSError: The disk refused.
    """
    aside = folder.with_name("tokenizer")
    aside.mkdir()
    try:
        tokenizer.save_pretrained(str(aside))
    except Exception as error:  # whatever a tokenizer of somebody else's may raise
        if code := _refusal_of_disk(error):
            raise OSError(code, os.strerror(code)) from error
        return [f"the tokenizer was not saved: {type(error).__name__}: {str(error)[:300]}"]
    for name in _CONFIGS:
        if (aside / name).exists():
            _forget_this_machine(aside / name)
    for path in aside.iterdir():
        path.replace(folder / path.name)
    return []


def _refusal_of_disk(error: Exception) -> int | None:
    """The system's error number if the disk is to blame; the tokenizers library hides it in a bare Exception's text."""
    hidden = re.search(r"\(os error (\d+)\)", str(error))
    code = error.errno if isinstance(error, OSError) else int(hidden[1]) if hidden else None
    return code if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS) else None


def _forget_this_machine(path: Path) -> None:
    document = json.loads(path.read_bytes())
    kept = {key: value for key, value in document.items() if key not in _OF_THIS_MACHINE}
    if "name_or_path" in kept and hub_id(kept["name_or_path"]) is None:
        del kept["name_or_path"]
    if kept != document:
        path.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
