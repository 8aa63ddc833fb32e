"""The manifest, `perdure.json`: what a saved folder holds, to the byte.

```json
{
 "digest": "blake3:…",              of this document's canonical text without this line's key
 "files": {"model.safetensors": {"digest": "blake3:…", "size": 123, "tensors": {"lm_head.weight": "blake3:…"}}},
 "format": "perdure",
 "kind": "model",                   or "adapter", "module", "checkpoint"
 "version": 1
}
```

A checkpoint's has three more: `"step": 200`, `"epoch": 1.5` where the training loop told it, and
`"metrics": {"loss": 0.7}`, where numbers that JSON does not know stand as text (`"nan"`, `"inf"`).

The text is canonical (sorted keys, one space of indent, UTF-8, a last newline), so that every bit of it counts: a
manifest whose bytes differ from its own re-encoding is damaged. A file's digest is that of `perdure.io.digest` over
its bytes; for a safetensors file it is the combination of its header's digest and its tensors', in the order of
their bytes, so that each byte is hashed once and still every tensor has a digest of its own.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perdure.errors import Corrupt, NotFound, UnsupportedFormat
from perdure.format.instead import instead_of
from perdure.format.names import MANIFEST, check_name
from perdure.io.digest import as_bytes, as_text, combine, digest_bytes

VERSION = 1
MAX_SIZE = 256 * 2**20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file: its size in bytes, its digest, and for safetensors the digest of each tensor."""

    size: int
    digest: str
    tensors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A saved folder's contents: path within the folder (with `/`) → entry; and of what moment, for a checkpoint."""

    kind: str
    files: Mapping[str, FileEntry]
    step: int | None = None
    epoch: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all files together, without the manifest itself."""
        return sum(entry.size for entry in self.files.values())

    def encode(self) -> bytes:
        """The canonical text of the document above."""
        document: dict[str, Any] = {
            "format": "perdure",
            "version": VERSION,
            "kind": self.kind,
            "files": {path: _document(entry) for path, entry in self.files.items()},
        }
        if self.step is not None:
            document["step"] = self.step
        if self.epoch is not None:
            document["epoch"] = self.epoch
        if self.metrics:
            document["metrics"] = {
                name: value if math.isfinite(value) else str(value) for name, value in self.metrics.items()
            }
        document["digest"] = as_text(digest_bytes(_canonical(document)))
        return _canonical(document)


def decode(text: bytes, path: Path | None = None) -> Manifest:
    """Parse and check a manifest; `path` is where it came from, for the error.

    Raises:
        Corrupt: A bit of it is not as it was written, or it names a path outside its folder.
        UnsupportedFormat: A newer perdure wrote it.
    """
    where = path or Path(MANIFEST)
    try:
        document = json.loads(text.decode("utf-8"))
        if not isinstance(document, dict) or document.get("format") != "perdure":
            raise ValueError("it is not a perdure manifest")
        if document.get("version") != VERSION:
            raise UnsupportedFormat(
                f"{where} has format version {document.get('version')!r}; this perdure reads version {VERSION}.",
                hint="Upgrade with: pip install --upgrade perdure",
            )
        kind, files = document["kind"], document["files"]
        manifest = Manifest(
            kind=str(kind),
            files={check_name(name): _entry(files[name]) for name in files},
            step=_number(document.get("step"), int),
            epoch=_number(document.get("epoch"), int, float),
            metrics={name: float(value) for name, value in document.get("metrics", {}).items()},
        )
        if manifest.encode() != text:
            raise ValueError("its text does not have the digest that it names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise Corrupt(f"The manifest {where} is damaged: {error}.", path=where) from error
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a saved folder.

    Raises:
        NotFound: There is none, so perdure did not save this folder, or its save was never committed.
        Corrupt, UnsupportedFormat: As `decode`.
    """
    path = folder / MANIFEST
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SIZE:
            raise Corrupt(f"The manifest {path} is no file, or larger than any save could need.", path=path)
        return decode(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError):
        there = "has no perdure.json: perdure did not save it, or the save was never finished."
        raise NotFound(
            f"{folder} {there if folder.is_dir() else 'is not a folder.'}",
            hint=instead_of(folder) or "Name a folder that perdure saved.",
        ) from None
    except OSError as error:
        raise Corrupt(f"The manifest {path} cannot be read: {error.strerror}.", path=path) from error


def tensors_entry(size: int, head: bytes, tensors: Mapping[str, bytes]) -> FileEntry:
    """The entry of a safetensors file of `size` bytes.

    Args:
        head: Digest of everything before the tensors' bytes.
        tensors: Digest of each tensor, in the order of their bytes in the file.
    """
    whole = combine([head, *tensors.values()]) if tensors else head  # then the header is the whole file
    return FileEntry(
        size=size, digest=as_text(whole), tensors={name: as_text(digest) for name, digest in tensors.items()}
    )


def _canonical(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _document(entry: FileEntry) -> dict[str, Any]:
    document: dict[str, Any] = {"size": entry.size, "digest": entry.digest}
    return {**document, "tensors": dict(entry.tensors)} if entry.tensors else document


def _number(value: Any, *kinds: type) -> Any:
    if value is not None and (type(value) not in kinds or not 0 <= value < 2**63):
        raise ValueError("a number in it is none")
    return value


def _entry(document: Mapping[str, Any]) -> FileEntry:
    tensors = document.get("tensors", {})
    as_bytes(document["digest"])
    for digest in tensors.values():
        as_bytes(digest)
    if type(document["size"]) is not int or document["size"] < 0:
        raise ValueError("a size in it is not a size")
    return FileEntry(size=document["size"], digest=document["digest"], tensors=tensors)
