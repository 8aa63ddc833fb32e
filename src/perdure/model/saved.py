"""What a save left on disk, and what it took away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perdure.format.manifest import FileEntry
from perdure.format.names import ADAPTER_CONFIG, CONFIG, GENERATION_CONFIG, is_tokenizer, is_weights
from perdure.model.configs import is_transformers_config
from perdure.model.kind import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModel:
    """What `save_model` or `export` left on disk.

    Attributes:
        path: The folder, absolute.
        kind: "model" (transformers), "adapter" (PEFT) or "module" (any other).
        files: Path within the folder → size in bytes, digest, and for safetensors the digest of each tensor.
        warnings: What is worth knowing: NaN in a tensor, a configuration that had to be repaired.
    """

    path: Path
    kind: Kind
    files: Mapping[str, FileEntry] = field(repr=False)  # screens of digests
    warnings: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of all files together, without the manifest."""
        return sum(entry.size for entry in self.files.values())

    @property
    def digests(self) -> Mapping[str, str]:
        """Path within the folder → digest."""
        return {path: entry.digest for path, entry in self.files.items()}


def stale_in(target: Path, kind: str, with_tokenizer: bool) -> Callable[[str], bool]:
    """Which files of an older save, one that left no manifest, must go because a loader would still read them."""

    # Asked now, not when `stale` is called: by then another config.json may have come.
    configs_are_ours = kind == "model" or is_transformers_config(target / CONFIG)

    def stale(name: str) -> bool:
        if name in (CONFIG, GENERATION_CONFIG):
            return configs_are_ours
        return is_weights(name) or name == ADAPTER_CONFIG or (with_tokenizer and is_tokenizer(name))

    return stale
