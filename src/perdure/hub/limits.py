"""Every bound of the hub in one place: what a client may send, in bytes or counts unless named otherwise."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

JSON_BODY: Final = 4 * MIB
"""An ordinary API call."""

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
MESSAGE: Final = 64 * KIB

BLOB: Final = 1024 * 1024 * MIB
"""One large file, however it is uploaded."""

XORB: Final = 64 * MIB
XORB_CHUNKS: Final = 8 * KIB
XORB_CHUNK: Final = 128 * KIB
SHARD: Final = 64 * MIB

CARD_METADATA: Final = 256 * KIB
"""The YAML block at the top of a README.md."""

SAFETENSORS_HEADER: Final = 25 * MIB
GIT_ATTRIBUTES: Final = 64 * KIB

BODY_SILENCE_SECONDS: Final = 120.0
"""How long a client may send nothing in the middle of a body before its request is given up."""

UPLOAD_LINK_SECONDS: Final = 6 * 3600
XET_TOKEN_SECONDS: Final = 3600
