"""`.gitattributes` and `.gitignore`: which files go to the blob store, and which are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Final

from perdure.hub import limits

_LARGE: Final = """
*.7z *.arrow *.avro *.bin *.bz2 *.ckpt *.ftz *.gguf *.gz *.h5 *.joblib *.lz4 *.mlmodel *.model *.msgpack *.npy *.npz
*.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz
*.wasm *.xz *.zip *.zst *tfevents*
"""
DEFAULT: Final = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LARGE.split())
"""What a new repository starts with: the public Hub's list, so that the same files are large here and there."""


@lru_cache(maxsize=4096)
def _segment(pattern: str) -> re.Pattern[str]:
    # `translate` writes every `*` as an atomic group, so a hostile pattern cannot make matching exponential
    return re.compile(translate(pattern))


def matches(pattern: str, path: str) -> bool:
    """Whether a gitattributes pattern matches a file's path: without `/` its name, otherwise the whole path.

    >>> matches("*.bin", "a/b.bin"), matches("a/*.bin", "a/b/c.bin"), matches("a/**/*", "a/b/c.bin")
    (True, False, True)
    """
    if "/" not in pattern.rstrip("/"):
        return _segment(pattern.rstrip("/")).match(path.rpartition("/")[2]) is not None
    return _match_segments(pattern.strip("/").split("/"), path.split("/"))


def _match_segments(patterns: Sequence[str], segments: Sequence[str]) -> bool:
    # reachable[i]: the patterns so far can consume exactly the first i segments
    reachable = [True] + [False] * len(segments)
    for pattern in patterns:
        if pattern == "**":
            first = reachable.index(True) if True in reachable else len(reachable)
            reachable = [i >= first for i in range(len(reachable))]
        else:
            compiled = _segment(pattern)
            reachable = [False] + [
                reachable[i] and compiled.match(segment) is not None for i, segment in enumerate(segments)
            ]
    return reachable[-1]


class Attributes:
    """The `filter=lfs` part of a `.gitattributes` file; the last pattern that matches decides.

    >>> Attributes("*.bin filter=lfs\\nsmall.bin -filter").is_large("a/x.bin")
    True
    """

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[str, bool]] = []
        for line in text.splitlines()[: limits.PATTERNS]:
            pattern, *attributes = line.split() or [""]
            if not pattern or pattern.startswith("#") or len(pattern) > limits.PATTERN:
                continue
            for attribute in attributes:
                if attribute.lstrip("-!").partition("=")[0] == "filter":
                    self._rules.append((pattern, attribute == "filter=lfs"))

    def is_large(self, path: str) -> bool:
        """Whether the file at `path` belongs in the blob store; small when no pattern matches."""
        return next((large for pattern, large in reversed(self._rules) if matches(pattern, path)), False)


class Ignore:
    """A `.gitignore` file; the last pattern that matches a path or one of its folders decides.

    >>> Ignore("runs/\\n*.log\\n!keep.log").ignores("runs/a.txt")
    True
    """

    def __init__(self, text: str) -> None:
        lines = [line.rstrip() for line in text.splitlines()[: limits.PATTERNS]]
        self._rules = [
            (line.removeprefix("!"), not line.startswith("!"))
            for line in lines
            if line and not line.startswith("#") and len(line) <= limits.PATTERN
        ]

    def ignores(self, path: str) -> bool:
        """Whether the file at `path`, or a folder it is in, is to be left out."""
        segments = path.split("/")
        folders = ["/".join(segments[: i + 1]) for i in range(len(segments) - 1)]
        if any(self._decide(folder, is_folder=True) for folder in folders):
            return True  # as in git, nothing inside an ignored folder can be taken in again
        return self._decide(path, is_folder=False)

    def _decide(self, path: str, *, is_folder: bool) -> bool:
        for pattern, ignored in reversed(self._rules):
            if (is_folder or not pattern.endswith("/")) and matches(pattern, path):
                return ignored
        return False
