"""What must not leave the machine unnoticed: tokens, keys, passwords, pickles, and paths that tell who sits where.

The last fence, behind `selection`: whatever is about to be sent is read, in blocks and up to a bound, and what is found
is named by file, line and kind, never repeated.
"""

from __future__ import annotations

import logging
import math
import pickletools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from perdure.errors import CheckFailed
from perdure.format.names import holds_weights, is_for_resuming, is_tokenizer, is_training_state, is_weights
from perdure.publishing.selection import Content, opened, size_of

_log = logging.getLogger("perdure")
_BLOCK = 2**20  # bytes
_OVERLAP = 2048  # bytes; longer than any token
_MOST_TEXT = 256 * 2**20  # bytes read of a file
_MOST_OF_WEIGHTS = 4 * 2**20  # bytes read of weights: their header, where text may be
_MOST_OF_CONFIG = 4 * 2**20  # bytes up to which a file counts as one that a person may have written into
_MOST_PER_FILE = 20
_LEAST_ENTROPY = 3.0  # bits per character: what is below is a placeholder, not a secret


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """Something that must not leave the machine unnoticed; `line` is 0 where it is the file as a whole."""

    path: str
    line: int
    kind: str

    @property
    def id(self) -> str:
        """What to allow it by.

        >>> Finding(path="config.json", line=3, kind="absolute-path").id
        'config.json:3:absolute-path'
        """
        return f"{self.path}:{self.line}:{self.kind}"

    def __str__(self) -> str:
        return f"{self.path}{f', line {self.line}' if self.line else ''}: {_WORDS[self.kind]}"


_WORDS = {
    "absolute-path": "a path of this machine",
    "aws-key": "what looks like a key of AWS",
    "credentials": "a file of credentials, by its name",
    "github-token": "what looks like a token of GitHub",
    "gitlab-token": "what looks like a token of GitLab",
    "google-key": "what looks like a key of Google",
    "hub-token": "what looks like a token of a Hub",
    "openai-key": "what looks like an API key",
    "optimizer-state": "state of an optimizer, which no reader of a model needs",
    "password": "what looks like a password",
    "pickle": "a pickle, which runs code when it is loaded",
    "private-key": "a private key",
    "slack-token": "what looks like a token of Slack",
    "training-arguments": "a training run's arguments, with tokens and paths in them",
    "web-token": "what looks like a signed web token",
}

# Each begins with plain characters, for which `re` searches fast; a word before them means that they are part of one.
_TOKENS = {
    "hub-token": re.compile(rb"hf_[A-Za-z0-9_-]{30,100}"),
    "openai-key": re.compile(rb"sk-(?=[A-Za-z_-]{0,99}[0-9])(?=[a-z0-9_-]{0,99}[A-Z])[A-Za-z0-9_-]{32,200}"),
    "github-token": re.compile(rb"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,}"),
    "gitlab-token": re.compile(rb"glpat-[A-Za-z0-9_-]{20,}"),
    "web-token": re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
    "aws-key": re.compile(rb"A[KS]IA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    "google-key": re.compile(rb"AIza[0-9A-Za-z_-]{35}"),
    "slack-token": re.compile(rb"xox[abprs]-[0-9A-Za-z-]{20,}"),
    "private-key": re.compile(rb"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
}
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_ESCAPE = re.compile(rb"\\(?:[abfnrtv0]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})\Z")  # a line break, say, as JSON writes it
_ASSIGNED = re.compile(
    rb"(?i)(?:password|passwd|secret|(?:api|secret|access|private)[_-]?key|(?:access|auth)[_-]?token)[\"']?"
    rb"\s{0,4}[:=]\s{0,4}([\"']?)([A-Za-z0-9+/_=.~!@#%^&*-]{12,200})"
)
_IN_ADDRESS = re.compile(rb"://[^\s:/@\"'<>{}$]{1,64}:([^\s/@\"'<>{}$]{4,128})@")
# Those of people's own folders wherever they are; those of a cluster's disks where a text begins with them; any where
# a key says that it is one.
_ABSOLUTE = re.compile(
    rb"(?:(?<![\w/.~-])|(?<=file://)|(?<=\\[nrt]))"
    rb"(?:/(?:home|Users)/[\w.-]|/root(?=[/\"'\s])|[A-Za-z]:(?:\\{1,2}|/)Users\b)"
    rb"|(?:(?<!\\)[\"']|[:=]\s|file://)/(?:mnt|nfs|data\d?|scratch|workspace|work|tmp|gpfs|lustre|fsx|content|kaggle|media"
    rb"|Volumes|storage|projects?)/[\w.-]"
    rb"|(?:name_or_path|[_-](?:path|dir|folder|file))\"?\s?[:=]\s{0,4}\"?/[\w.-]+/[\w.-]"
)
_CREDENTIALS = re.compile(
    r"\.env(\..+)?|\.?netrc|\.git-credentials|\.pypirc|id_(rsa|dsa|ecdsa|ed25519)|.+\.(pem|key|p12|pfx|keystore)"
    r"|credentials(\.json)?|secrets?\.(json|ya?ml|toml)"
)
_RUNS = frozenset({"GLOBAL", "INST"})  # what names something to be called, before there were protocols
_CONFIGS = (".json", ".yaml", ".yml", ".toml", ".cfg", ".ini")


def require_clean(files: Mapping[str, Content], *, allow: Collection[str] = ()) -> None:
    """Refuse to send what must not leave the machine.

    Args:
        files: Path in the repository → content.
        allow: Ids of findings to pass over; of those that are none, a warning tells.

    Raises:
        CheckFailed: Something was found; it names file, line and kind of each.
    """
    every = scan(files)
    if useless := sorted(set(allow) - {finding.id for finding in every}):
        _log.warning("What was to be allowed is no finding: %s", ", ".join(useless))
    found = [finding for finding in every if finding.id not in allow]
    if found:
        listed = "\n  ".join(map(str, found))
        raise CheckFailed(
            f"This must not leave the machine unnoticed; nothing was sent:\n  {listed}",
            findings=tuple(finding.id for finding in found),
            hint="Remove it, or allow each that is meant to be read: "
            + " ".join(f"--allow {finding.id}" for finding in found),
        )


def require_clean_words(what: str, text: str | None, *, hint: str = "Say it without.") -> None:
    """Refuse words that are sent or written down beside files, such as a commit's message.

    Raises:
        CheckFailed: They hold what looks like a token, a key or a password.
    """
    found = scan({what: text.encode(errors="replace")}) if text else []
    if found:
        kinds = " and ".join(sorted({_WORDS[finding.kind] for finding in found}))
        raise CheckFailed(
            f"The {what} holds {kinds}. Nothing was sent, nor written down.",
            findings=tuple(finding.id for finding in found),
            hint=hint,
        )


def scan(files: Mapping[str, Content]) -> list[Finding]:
    """What is found in files to be sent, in bounded time and memory."""
    return sorted(finding for path, content in files.items() for finding in _scan_file(path, content))


def _scan_file(path: str, content: Content) -> Iterator[Finding]:
    kind = _kind_by_name(path) or ("pickle" if not is_weights(path) and _is_pickle(content) else None)
    if kind is not None:
        yield Finding(path=path, line=0, kind=kind)
        return
    found = {Finding(path=path, line=line, kind=kind) for line, kind in islice(_lines(path, content), _MOST_PER_FILE)}
    yield from found


def _kind_by_name(path: str) -> str | None:
    name = path.rpartition("/")[2]
    if _CREDENTIALS.fullmatch(name):
        return "credentials"
    if name.startswith("training_args."):
        return "training-arguments"
    if is_training_state(name) and not is_for_resuming(path):
        return "optimizer-state"
    return None


def _is_pickle(content: Content) -> bool:
    with opened(content) as file:
        head = file.read(2**16)
    if head.startswith(b"PK\x03\x04"):
        return b"data.pkl" in head
    if head.startswith(b"\x93NUMPY"):
        return b"'|O'" in head[:_OVERLAP]  # an array of objects
    seen = []
    try:
        for operation, _, _ in pickletools.genops(head):
            seen.append(operation.name)
    except ValueError:  # no pickle, or the rest of it comes later
        return seen[:1] == ["PROTO"] and len(seen) > 1
    return seen[0] == "PROTO" or not _RUNS.isdisjoint(
        seen
    )  # without the first, text may look like one that is harmless


def _lines(path: str, content: Content) -> Iterator[tuple[int, str]]:
    weights = holds_weights(path) and not path.endswith(".json")
    written = not weights and not is_tokenizer_data(path) and size_of(content) <= _MOST_OF_CONFIG
    seen: set[tuple[int, str]] = set()
    for at, line, block in _blocks(content, _MOST_OF_WEIGHTS if weights else _MOST_TEXT):
        for start, kind in _in_block(path, block, written=written):
            if (start or not at) and (at + start, kind) not in seen:  # what begins the overlap was seen with its word
                seen.add((at + start, kind))
                yield line + block.count(b"\n", 0, start), kind


def _in_block(path: str, block: bytes, *, written: bool) -> Iterator[tuple[int, str]]:
    for kind, shape in _TOKENS.items():
        for match in shape.finditer(block):
            if not _is_amid_a_word(block, match.start()) and (
                kind == "private-key" or _entropy(match[0]) >= _LEAST_ENTROPY
            ):
                yield match.start(), kind
    if not written:
        return
    for match in _ASSIGNED.finditer(block):
        value = match[2]
        quoted = bool(match[1]) or not path.endswith(".py")
        mixed = re.search(rb"[0-9]", value) and re.search(rb"[A-Za-z]", value)
        if quoted and mixed and _entropy(value) >= _LEAST_ENTROPY:
            yield match.start(), "password"
    for match in _IN_ADDRESS.finditer(block):
        if re.search(rb"[0-9]", match[1]):  # otherwise it is `user:password@`, as manuals write it
            yield match.start(), "password"
    if path.endswith(_CONFIGS) and not is_for_resuming(path):
        for match in _ABSOLUTE.finditer(block):
            yield match.start(), "absolute-path"


def _is_amid_a_word(block: bytes, start: int) -> bool:
    return start > 0 and block[start - 1] in _WORD and not _ESCAPE.search(block[max(start - 6, 0) : start])


def is_tokenizer_data(path: str) -> bool:
    """Whether a file is a vocabulary, in which everything looks like anything; its configuration is not."""
    return is_tokenizer(path) and not path.endswith(("_config.json", ".jinja"))


def _blocks(content: Content, most: int) -> Iterator[tuple[int, int, bytes]]:
    """Blocks that overlap: offset, number of the first line, bytes."""
    at, line, tail = 0, 1, b""
    with opened(content) as file:
        wide = _is_wide(file.read(4))
        file.seek(0)
        while at < most and (fresh := file.read(_BLOCK)):
            block = tail + (fresh.replace(b"\0", b"") if wide else fresh)
            yield at, line, block
            tail = block[-_OVERLAP:]
            line += block.count(b"\n", 0, len(block) - len(tail))
            at += len(block) - len(tail)


def _is_wide(head: bytes) -> bool:
    """Whether a text begins so of which each character is two bytes, as some editors write it."""
    return head[:2] in (b"\xff\xfe", b"\xfe\xff") or (head[::2] == b"\0\0") != (head[1::2] == b"\0\0")


def _entropy(text: bytes) -> float:
    """Bits per character.

    >>> _entropy(b"xxxxxxxx"), _entropy(b"abcdefgh")
    (0.0, 3.0)
    """
    return sum(-count / len(text) * math.log2(count / len(text)) for count in Counter(text).values()) or 0.0
