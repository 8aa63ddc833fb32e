"""`.gitattributes` and `.gitignore`: which files go to the blob store, and which are left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from typing import Final

from perdure.hub import limits
from perdure.hub.http import bad_request

_LARGE: Final = """
*.7z *.arrow *.avro *.bin *.bz2 *.ckpt *.ftz *.gguf *.gz *.h5 *.joblib *.lz4 *.mlmodel *.model *.msgpack *.npy *.npz
*.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz
*.wasm *.xz *.zip *.zst *tfevents*
"""
DEFAULT: Final = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LARGE.split())
"""What a new repository starts with: the public Hub's list, so that the same files are large here and there."""


_WILD: Final = re.compile(r"[*?\[]")


class _Patterns:
    """Patterns that are matched all at once, down a path segment by segment.

    Each segment of each pattern is a bit. What of a pattern is matched so far is a bit, too, and a path's next segment
    moves on those that match it; so the number of patterns hardly matters. Whether a name matches a wildcard is asked
    once for each two of them, and counted: what is too much is refused.

    >>> patterns = _Patterns(["*.bin", "a/*.bin", "a/**/*"])
    >>> [patterns.last(patterns.whole(path), patterns.ends) for path in ("a.bin", "a/b.bin", "a/b/c.txt", "b")]
    [0, 2, 2, None]
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._start = self._any = position = 0
        self._work = limits.PATTERN_WORK
        self._names: dict[str, int] = {}
        self._wild: dict[str, int] = {}
        self._compiled: dict[str, re.Pattern[str]] = {}
        self._rules: dict[int, int] = {}
        for rule, pattern in enumerate(patterns):
            self._start |= 1 << position
            for segment in _segments(pattern):
                if segment == "**":
                    self._any |= 1 << position
                else:
                    known = self._wild if _WILD.search(segment) else self._names
                    known[segment] = known.get(segment, 0) | 1 << position
                position += 1
            self._rules[position] = rule
            position += 1
        self._seen: dict[str, int] = {}

    @property
    def ends(self) -> int:
        """What it is to match a pattern."""
        return self.ends_of(self._rules.values())

    def ends_of(self, rules: Iterable[int]) -> int:
        """What it is to match one of these patterns, by their numbers."""
        chosen = set(rules)
        return sum(1 << position for position, rule in self._rules.items() if rule in chosen)

    def last(self, matched: int, ends: int) -> int | None:
        """The number of the last pattern that is matched, of those with these ends."""
        found = matched & ends
        return self._rules[found.bit_length() - 1] if found else None

    def whole(self, path: str) -> int:
        """What the whole of a path matches."""
        *_, matched = self.down(path)
        return matched

    def down(self, path: str) -> Iterator[int]:
        """What each of a path's folders matches, from the outermost, and at last the path itself."""
        at = self._start | (self._start & self._any) << 1  # `**` matches no folder, too
        for name in path.split("/"):
            at = (at & self._matching(name)) << 1 | at & self._any
            at |= (at & self._any) << 1
            yield at

    def _matching(self, name: str) -> int:
        if name not in self._seen:
            matching = self._names.get(name, 0)
            for pattern, bits in self._wild.items():
                if self._compile(pattern, len(name)).match(name):
                    matching |= bits
            self._seen[name] = matching
        return self._seen[name]

    def _compile(self, pattern: str, length: int) -> re.Pattern[str]:
        # `translate` writes every `*` as an atomic group: matching takes the product of the lengths and no more
        self._work -= (len(pattern) + 8) * (length + 8)
        if pattern not in self._compiled:
            self._work -= (len(pattern) + 8) * 2500  # in steps of matching, about
            self._compiled[pattern] = re.compile(translate(pattern))
        if self._work < 0:
            raise bad_request("The patterns of .gitattributes or .gitignore are too many for so many files at once.")
        return self._compiled[pattern]


def _segments(pattern: str) -> list[str]:
    """What a path's segments are to match; `**` stands for any number of them."""
    if "/" not in pattern.rstrip("/"):
        return ["**", pattern.rstrip("/")]
    segments = pattern.strip("/").split("/")
    return [name for name, before in zip(segments, ["", *segments], strict=False) if (name, before) != ("**", "**")]


class Attributes:
    """The `filter=lfs` part of a `.gitattributes` file; the last pattern that matches decides.

    >>> Attributes("*.bin filter=lfs\\nsmall.bin -filter").is_large("a/x.bin")
    True
    """

    def __init__(self, text: str) -> None:
        patterns: list[str] = []
        self._large: list[bool] = []
        for line in text.splitlines()[: limits.PATTERNS]:
            pattern, *attributes = line.split() or [""]
            if not pattern or pattern.startswith("#") or len(pattern) > limits.PATTERN:
                continue
            for attribute in attributes:
                if attribute.lstrip("-!").partition("=")[0] == "filter":
                    patterns.append(pattern)
                    self._large.append(attribute == "filter=lfs")
        self._patterns = _Patterns(patterns)
        self._ends = self._patterns.ends

    def is_large(self, path: str) -> bool:
        """Whether the file at `path` belongs in the blob store; small when no pattern matches."""
        rule = self._patterns.last(self._patterns.whole(path), self._ends)
        return rule is not None and self._large[rule]


class Ignore:
    """A `.gitignore` file; the last pattern that matches a path or one of its folders decides.

    >>> Ignore("runs/\\n*.log\\n!keep.log").ignores("runs/a.txt")
    True
    """

    def __init__(self, text: str) -> None:
        lines = [line.rstrip() for line in text.splitlines()[: limits.PATTERNS]]
        rules = [line for line in lines if line and not line.startswith("#") and len(line) <= limits.PATTERN]
        self._ignored = [not rule.startswith("!") for rule in rules]
        self._patterns = _Patterns([rule.removeprefix("!") for rule in rules])
        self._ends = self._patterns.ends
        self._file_ends = self._patterns.ends_of(i for i, rule in enumerate(rules) if not rule.endswith("/"))

    def ignores(self, path: str) -> bool:
        """Whether the file at `path`, or a folder it is in, is to be left out."""
        *folders, matched = self._patterns.down(path)
        # as in git, nothing inside an ignored folder can be taken in again
        return any(self._says(folder, self._ends) for folder in folders) or self._says(matched, self._file_ends)

    def _says(self, matched: int, ends: int) -> bool:
        rule = self._patterns.last(matched, ends)
        return rule is not None and self._ignored[rule]
