"""Git's packet lines, as far as a server that takes pushes reads and writes them.

Specification: https://git-scm.com/docs/gitprotocol-pack
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Final

from dulwich.objects import ObjectID

from perdure.hub import limits
from perdure.hub.http import bad_request
from perdure.hub.paths import is_sha

FLUSH: Final = b"0000"
ZERO: Final = ObjectID(b"0" * 40)
"""Stands for "no object": the old value of a ref that is new, the new value of one that goes."""

_MOST: Final = 65_520
_BAND: Final = _MOST - 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Move `ref` from `old` to `new`; `ZERO` for a ref that is not there before or after."""

    ref: str
    old: ObjectID
    new: ObjectID


def packet(data: bytes) -> bytes:
    """`data` as one packet line.

    >>> packet(b"hello")
    b'0009hello'
    """
    return f"{len(data) + 4:04x}".encode() + data


def band(number: int, data: bytes) -> bytes:
    """`data` in packet lines of a side band: 1 for the answer, 2 for what the person is to read."""
    parts = (data[i : i + _BAND] for i in range(0, len(data), _BAND))
    return b"".join(packet(bytes([number]) + part) for part in parts)


def read_packet(file: IO[bytes]) -> bytes | None:
    """The next packet line; None for a flush.

    Raises:
        ApiError: 400, when there is none.
    """
    head = file.read(4)
    try:
        length = int(head, 16) if len(head) == 4 and head.isalnum() else -1
    except ValueError:
        length = -1
    if length == 0:
        return None
    data = file.read(length - 4) if 4 <= length <= _MOST else b""
    if length < 4 or len(data) != length - 4:
        raise bad_request("The request is not in git's packet lines.")
    return data


def read_commands(file: IO[bytes]) -> tuple[list[Command], frozenset[str]]:
    """What a push asks for, and the capabilities it was asked with; `file` is then at the start of the pack.

    Raises:
        ApiError: 400, for anything but commands.
    """
    commands: list[Command] = []
    capabilities: frozenset[str] = frozenset()
    while (line := read_packet(file)) is not None:
        if line.startswith((b"shallow ", b"push-cert")) and not commands:
            # what a shallow clone has not got the hub must have: the pack's connections are checked against it
            if line.startswith(b"shallow "):
                continue
            raise bad_request("This hub takes no signed pushes.")
        text, _, given = line.partition(b"\0")
        if given:
            capabilities = frozenset(given.decode("ascii", "replace").split())
        commands.append(_command(text))
        if len(commands) > limits.GIT_COMMANDS:
            raise bad_request(f"A push may change at most {limits.GIT_COMMANDS} refs.")
    if len({command.ref for command in commands}) != len(commands):
        raise bad_request("A push names a ref twice.")
    return commands, capabilities


def _command(line: bytes) -> Command:
    old, _, rest = line.rstrip(b"\n").partition(b" ")
    new, _, ref = rest.partition(b" ")
    try:
        name = ref.decode()
    except UnicodeDecodeError:
        name = ""
    if not (name and is_sha(old.decode("latin-1")) and is_sha(new.decode("latin-1"))):
        raise bad_request("A push has a line that is no command.")
    return Command(ref=name, old=ObjectID(old), new=ObjectID(new))


def advertise(refs: Iterable[tuple[str, ObjectID]], capabilities: str) -> bytes:
    """What a client is told before it pushes: every ref and where it points to, and what the server can do."""
    lines = [f"{sha.decode()} {ref}" for ref, sha in refs] or [f"{ZERO.decode()} capabilities^{{}}"]
    lines[0] += f"\0{capabilities}"
    return b"".join(packet(f"{line}\n".encode()) for line in lines) + FLUSH
