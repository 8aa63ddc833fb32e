"""Taking in a push: a pack into quarantine, checks, then the refs.

No hook of a repository is run, and nothing a push brings can be seen before all of it was found sound.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, Final

from dulwich.objects import Commit, Tag

from perdure.hub import auth, limits
from perdure.hub.core import Call
from perdure.hub.git import MAIN, GitRepo, Move
from perdure.hub.git_check import Refused, check_objects
from perdure.hub.git_wire import FLUSH, ZERO, Command, band, packet, read_commands
from perdure.hub.http import ApiError
from perdure.hub.paths import check_ref
from perdure.hub.pulls import own_pull
from perdure.io.durable import fsync_file, fsync_folder, make_folders

CAPABILITIES: Final = (
    "report-status delete-refs side-band-64k quiet atomic ofs-delta object-format=sha1 agent=perdure-hub"
)

_ATOMIC: Final = "the push is atomic, and another of its refs was refused"


def receive(call: Call, request: IO[bytes]) -> bytes:
    """Do what a push asks for, and say for each ref how that went."""
    commands, capabilities = read_commands(request)
    if not commands:  # git asks with an empty request whether it may, before it sends a large one
        return FLUSH
    unpacked, results = "ok", {command.ref: _why_not(call, command) for command in commands}
    allowed = [command for command in commands if results[command.ref] is None]
    if "atomic" in capabilities and len(allowed) < len(commands):
        results |= {command.ref: _ATOMIC for command in allowed}
        allowed = []
    with call.git() as git:
        try:
            if any(command.new != ZERO for command in allowed):
                _take_pack(call, git, allowed, request)
            with git.writing():
                results |= _move(call, git, allowed, atomic="atomic" in capabilities)
        except Refused as error:
            unpacked = str(error)
            results |= {command.ref: str(error) for command in allowed}
    return _report(unpacked, results, capabilities)


def _why_not(call: Call, command: Command) -> str | None:
    """Why the caller may not move a ref, or not to there; None when they may."""
    kind, _, name = command.ref.removeprefix("refs/").partition("/")
    if not command.ref.startswith("refs/") or kind not in {"heads", "tags", "pr"}:
        return "only branches, tags and pull requests are kept here"
    if kind == "pr":
        return _why_no_pull(call, command)
    if not auth.may_write(call.caller, call.repo):
        return "you may not write to this repository"
    if kind == "heads" and name == MAIN and command.new == ZERO:
        return f"the branch {MAIN} cannot be deleted"
    try:
        check_ref(name)
    except ApiError as error:
        return error.message
    return None


def _why_no_pull(call: Call, command: Command) -> str | None:
    try:
        own_pull(call, command.ref)
    except ApiError as error:
        return error.message
    return "a pull request's commits are kept; close it instead" if command.new == ZERO else None


def _take_pack(call: Call, git: GitRepo, commands: Sequence[Command], request: IO[bytes]) -> None:
    """Put a pack's objects into the repository, durably, once they and what they refer to were checked."""
    tips = [command.new for command in commands if command.new != ZERO]
    with _quarantine(call) as folder:
        _index(call, git, folder, request)
        check_objects(call, git, folder, tips)
        packs = folder / "pack"
        target = git.folder / "objects" / "pack"
        make_folders(target)
        # the index last: a pack is there for readers when its index is
        for path in sorted(packs.iterdir(), key=lambda path: path.suffix == ".idx"):
            if path.suffix in {".pack", ".rev", ".idx"}:
                fsync_file(path)
                path.replace(target / path.name)
        fsync_folder(target)


@contextmanager
def _quarantine(call: Call) -> Iterator[Path]:
    folder = call.hub.staging.folder / f"{token_hex(16)}.objects"
    (folder / "pack").mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def quarantined(git: GitRepo, folder: Path) -> dict[str, str]:
    """What makes git write to the quarantine, and read from it and from the repository."""
    return {
        "GIT_OBJECT_DIRECTORY": str(folder),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(git.folder / "objects"),
        "GIT_QUARANTINE_PATH": str(folder),
    }


def _index(call: Call, git: GitRepo, folder: Path, request: IO[bytes]) -> None:
    command = ["index-pack", "--stdin", "--fix-thin", "--strict", f"--max-input-size={limits.GIT_PACK}"]
    with (folder / "errors").open("w+b") as errors:
        process = call.commands.start(
            command, git.folder, stdin=subprocess.PIPE, stderr=errors, variables=quarantined(git, folder)
        )
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError), process.stdin as pipe:  # it stops reading where it finds a fault
            shutil.copyfileobj(request, pipe, 1 << 20)
        process.stdout.read()
        if call.commands.end(process) != [0]:
            errors.seek(0)
            text = errors.read(4096).decode("utf-8", "replace").replace(str(folder), "")
            raise Refused("the pack is not sound: " + " ".join(text.split())[:500])


def _move(call: Call, git: GitRepo, commands: Sequence[Command], *, atomic: bool) -> dict[str, str | None]:
    # asked again: while the pack was read, a pull request may have been closed or merged
    results = {command.ref: _why_not(call, command) or _why_stale(git, command) for command in commands}
    refused = [ref for ref, why in results.items() if why]
    if atomic and refused:
        return {ref: why or _ATOMIC for ref, why in results.items()}
    taken = "the name is taken by a folder of refs, or it has moved; fetch first"
    if atomic:
        failed = git.move_refs([_move_of(command) for command in commands])
        return {ref: taken if ref == failed else failed and _ATOMIC for ref in results}
    for command in commands:
        if results[command.ref] is None and not git.move_ref(*_move_of(command)):
            results[command.ref] = taken
    return results


def _move_of(command: Command) -> Move:
    return command.ref, None if command.old == ZERO else command.old, None if command.new == ZERO else command.new


def _why_stale(git: GitRepo, command: Command) -> str | None:
    current = git.ref(command.ref) or ZERO
    if current != command.old:
        return "it has moved since; fetch first, then push again"
    if command.new == ZERO:
        return None
    if command.new not in git.store:
        return "the object it is to point to was not sent"
    kind = git.store[command.new]
    if command.ref.startswith("refs/tags/") and isinstance(kind, Tag):
        kind = git.store[git.peel(command.new)]
    return None if isinstance(kind, Commit) else "it must point to a commit"


def _report(unpacked: str, results: dict[str, str | None], capabilities: frozenset[str]) -> bytes:
    if "report-status" not in capabilities:
        return FLUSH
    lines = [f"unpack {_line(unpacked)}"]
    lines += [f"ng {ref} {_line(why)}" if why else f"ok {ref}" for ref, why in results.items()]
    report = b"".join(packet(f"{line}\n".encode()) for line in lines) + FLUSH
    if "side-band-64k" not in capabilities:
        return report
    told = band(2, f"perdure hub: {unpacked}\n".encode()) if unpacked != "ok" else b""
    return told + band(1, report) + FLUSH


def _line(text: str) -> str:
    return " ".join(text.split())[:1000]
