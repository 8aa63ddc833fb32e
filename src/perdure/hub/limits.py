"""Every bound of the hub in one place, in bytes or counts unless named otherwise.

What a client may send, how much is answered, how much is done at a time, and how long it may take.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

JSON_BODY: Final = 4 * MIB
"""An ordinary API call."""

FORM: Final = 8 * KIB
"""What a person sends from a page."""

INLINE_FILE: Final = 10 * MIB
"""The largest file that is kept in git itself; larger ones go to the blob store (the public Hub's limit too)."""

COMMIT_LINE: Final = INLINE_FILE * 4 // 3 + 64 * KIB
"""One NDJSON line of a commit: a file of `INLINE_FILE` bytes in base64, and its path."""

COMMIT_BODY: Final = 512 * MIB
COMMIT_OPERATIONS: Final = 25_000

PATH: Final = 1024
PATH_SEGMENT: Final = 255
PATH_DEPTH: Final = 64
REF_NAME: Final = 255
REF_SEGMENT: Final = 250
"""A part of a branch's name between slashes; git adds `.lock` to it, and 255 is what file systems take."""

MESSAGE: Final = 64 * KIB
TITLE: Final = 200

PREUPLOAD_FILES: Final = 1000
"""Files of which one call asks how they should travel; Python sends 256 at a time."""

PATHS: Final = 10_000
"""Paths that one call asks about."""

LFS_OBJECTS: Final = 1000
"""Large files that one call asks about."""

BLOB: Final = 1024 * 1024 * MIB
"""One large file, however it is uploaded."""

XORB: Final = 64 * MIB
XORB_CHUNKS: Final = 8 * KIB
XORB_CHUNK: Final = 128 * KIB
SHARD: Final = 64 * MIB
SHARD_TERMS: Final = 1 << 18
"""Pieces that one file of a shard is joined from."""

SHARD_BATCH: Final = 1000
"""Files of a shard that are written down together."""

SHARD_UNPACKED: Final = 8 * 1024 * MIB
SHARD_REPEATS: Final = 64
"""What the files of one shard may add up to: `SHARD_UNPACKED` or, where that is more, so many times their xorbs."""

SHARDS_AT_ONCE: Final = 4
SHARDS_EACH: Final = 2
SHARD_PATIENCE_SECONDS: Final = 600.0
"""Shards whose files are put together at the same time, of all callers and of one; how long the others wait."""

CARD_METADATA: Final = 256 * KIB
"""The YAML block at the top of a README.md."""


SAFETENSORS_HEADER: Final = 25 * MIB
GIT_ATTRIBUTES: Final = 64 * KIB
PATTERNS: Final = 1000
PATTERN: Final = 256
"""Lines of a .gitattributes or .gitignore that count, and the characters that one of them may have."""

PATTERN_WORK: Final = 500_000_000
"""Steps, of a few nanoseconds each, that matching names with them may take in one request."""

GIT_PACK: Final = 4 * 1024 * MIB
"""What one `git push` sends; large files go another way."""

GIT_NEGOTIATION: Final = 64 * MIB
"""What one `git fetch` says it wants and has."""

GIT_TREE: Final = 8 * MIB
GIT_TEXT: Final = 1 * MIB
"""A commit or an annotated tag."""

GIT_COMMANDS: Final = 10_000
GIT_FOLDERS: Final = 250_000
"""Folders that may have to be looked into before one that holds them is known."""

TREE_FILES: Final = 250_000
"""Files of one commit, counted as a listing shows them: a folder that is named twice counts twice."""

HISTORY_ENTRIES: Final = 1_000_000
"""Entries of folders that one request compares to find what changed each file last."""

SIBLINGS: Final = 50_000
"""Files that are told in one answer; where there are more, clients list the tree, which comes in pages."""

GIT_MEMORY: Final = 2 * 1024 * MIB
"""Address space of one git command."""

GIT_AT_ONCE: Final = 16
GIT_EACH: Final = 4
GIT_PATIENCE_SECONDS: Final = 60.0
"""Clones and pushes that git works on at the same time, of all callers and of one; how long the others wait."""

GIT_SECONDS: Final = 3600.0
"""How long the git commands of one request may take."""

GIT_END_SECONDS: Final = 10.0

DIFF: Final = 2 * MIB
DIFF_FILE: Final = 128 * KIB
"""What is shown of a pull request's changes, and the largest file that is compared line by line."""

DIFF_PAIRS: Final = 4_000_000
"""Pairs of lines, an old one and a new one, that may be compared for it."""

PULL_COMMITS: Final = 1000
"""Commits of a pull request that are told, the newest."""

MERGED_SUBJECTS: Final = 100
"""Commits that a merge names in its message."""

CONNECTIONS: Final = 512
REFUSALS: Final = 64
"""Connections beyond those that are taken: to say on them that there are too many."""

HEADER_SECONDS: Final = 30.0
"""How long a client may take for the head of a request, from when it connects or has its last answer."""

BODY_SILENCE_SECONDS: Final = 120.0
"""How long a client may send nothing in the middle of a body before its request is given up."""

BODY_RATE: Final = 1 * KIB
"""Bytes a second that a body must come in with on the whole, beyond the first `BODY_SILENCE_SECONDS`."""

UNREAD_SECONDS: Final = 120.0
"""How long a client may take nothing of an answer before its connection is closed."""

WAITING: Final = 64
"""Requests of one caller that may wait for their turn; beyond that they are refused."""

BUSY_SECONDS: Final = 5
"""When a client that was refused for want of room should come back."""

LINK_SECONDS: Final = 6 * 3600
XET_TOKEN_SECONDS: Final = 3600
"""How long a link to upload or download, and a token for Xet uploads, may be used."""

HANDLERS_AT_ONCE: Final = 16
HANDLERS_EACH: Final = 8
HANDLER_PATIENCE_SECONDS: Final = 600.0
"""Requests that are worked on at the same time, of all callers and of one; how long the others wait: refused then, a
large upload would have come for nothing."""

XET_SHARD_SECONDS: Final = 7 * 24 * 3600
"""How long a client may go by what it was told is stored."""
