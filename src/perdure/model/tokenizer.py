"""The tokenizer, or multimodal processor, beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from perdure.errors import SaveFailed
from perdure.format.hub_id import hub_id

_CONFIG = "tokenizer_config.json"
# What loading offline leaves in the configuration: true of this machine, and wrong on every other.
_OF_THIS_MACHINE = ("is_local", "local_files_only")


def write_tokenizer(tokenizer: Any, folder: Path) -> list[str]:
    """Write a tokenizer or processor with its chat templates; a warning where it cannot be written.

    Raises:
        OSError, SaveFailed: The disk refused.
    """
    try:
        tokenizer.save_pretrained(str(folder))
    except OSError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception, for a full disk too
        if "os error" in str(error):
            raise SaveFailed(f"Saving the tokenizer failed: {error}. Nothing was replaced.") from error
        return [f"the tokenizer was not saved: {type(error).__name__}: {str(error)[:300]}"]
    config = folder / _CONFIG
    if config.exists():
        _forget_this_machine(config)
    return []


def _forget_this_machine(path: Path) -> None:
    document = json.loads(path.read_bytes())
    if not isinstance(document, dict):
        return
    kept = {key: value for key, value in document.items() if key not in _OF_THIS_MACHINE}
    if "name_or_path" in kept and hub_id(kept["name_or_path"]) is None:
        del kept["name_or_path"]
    if kept != document:
        path.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
