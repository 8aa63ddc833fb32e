"""The demo's folder: made, recognised and made anew, without ever costing a person a file of theirs."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from perdure import AlreadyExists, InvalidInput

_MARKER = "perdure-demo.json"

Inventory: TypeAlias = dict[str, list[int]]
"""Path within the folder → size in bytes and time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """Where the parts of a demo lie."""

    path: Path

    @property
    def model(self) -> Path:
        """The saved model, which is also the trainer's output folder."""
        return self.path / "model"

    @property
    def hub(self) -> Path:
        """The embedded hub's store."""
        return self.path / "hub"

    @property
    def token(self) -> Path:
        """The token of the hub's administrator, readable by its owner only."""
        return self.path / "token"

    @property
    def script(self) -> Path:
        """The plain transformers script that loads the published model."""
        return self.path / "ask.py"

    @property
    def caches(self) -> Path:
        """What Hugging Face libraries keep: one empty home for training, one for loading."""
        return self.path / "caches"

    def keep_token(self, token: str) -> None:
        """Write the token so that nobody else can read it, from the first byte on."""
        descriptor = os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")


@contextmanager
def demo_folder(path: Path) -> Iterator[DemoFolder]:
    """A folder with no demo in it yet, held for this demo alone.

    An earlier demo's own files make room, unless a person changed one of them or its hub is running; what else lies
    in the folder stays.

    Raises:
        AlreadyExists: The folder is not the demo's, or holds changes. Nothing in it was touched.
        InvalidInput: It cannot be made, or is in use.
    """
    folder = DemoFolder(path)
    try:
        if not _is_free(path) and _marker(folder) is None:
            raise AlreadyExists(
                f"{path} was not made by `perdure demo`; nothing in it was touched.", hint=_choose(path)
            )
        path.mkdir(parents=True, exist_ok=True)
        with _held(path):
            _make_room(folder)
            _mark(folder, None)
            try:
                yield folder
            finally:
                _mark(folder, _inventory(folder))
    except OSError as error:
        if error.filename is None or not Path(str(error.filename)).is_relative_to(path):
            raise
        raise InvalidInput(
            f"The demo cannot keep its files in {path}: {error.strerror}.",
            hint="Choose a folder that can be written to: perdure demo --dir FOLDER",
        ) from error


def _choose(path: Path) -> str:
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return f"Choose another folder: perdure demo --dir {shlex.quote(str(next(filter(_is_free, numbered))))}"


def _is_free(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _make_room(folder: DemoFolder) -> None:
    """Delete an earlier demo's own files, once it is sure that nobody else's are among them."""
    if folder.hub.is_dir():
        with _held(folder.hub):  # a hub that is running holds its store
            pass
    parts = (folder.model, folder.hub, folder.caches, folder.token, folder.script)
    recorded = (_marker(folder) or {}).get("files")
    changed = [str(part.name) for part in parts if part.is_symlink()]
    if recorded is not None:  # it is where a demo was killed; what lies there is only its beginning
        changed += [name for name, state in _inventory(folder).items() if recorded.get(name) != state]
    if changed:
        raise AlreadyExists(
            f"{folder.path} holds something that was changed or added after its demo: {changed[0]}. "
            "Nothing was touched.",
            hint=f"{_choose(folder.path)}\n  or delete this one: rm -r {shlex.quote(str(folder.path))}",
        )
    for part in parts:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _inventory(folder: DemoFolder) -> Inventory:
    """Size and time of every file that a person could have put something of theirs into.

    Left out are caches, and the hub's database, which merely looking at the hub changes: what is pushed to a hub
    shows in its repositories.
    """
    files = [folder.script, *(file for part in (folder.model, folder.hub / "repos") for file in part.rglob("*"))]
    return {
        str(file.relative_to(folder.path)): [file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(files)
        if file.is_file() and file.suffix != ".lock"
    }


def _marker(folder: DemoFolder) -> dict[str, Any] | None:
    """What says that this folder is a demo's; None if nothing does."""
    try:
        marker = json.loads((folder.path / _MARKER).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def _mark(folder: DemoFolder, inventory: Inventory | None) -> None:
    """Mark the folder as a demo's, with what it held when the demo ended; None while it runs."""
    (folder.path / _MARKER).write_text(json.dumps({"made by": "perdure demo", "files": inventory}, indent=1) + "\n")


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InvalidInput(f"{folder} is in use by another demo or hub; nothing was touched.") from error
    finally:
        os.close(descriptor)
