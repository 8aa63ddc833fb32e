"""A push as it is written down before it is tried, and what has become of it."""

from __future__ import annotations

import json
import operator
import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from perdure.errors import InvalidInput
from perdure.publishing.receipt import Receipt
from perdure.publishing.request import PushRequest
from perdure.publishing.target import Target

State = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A push that is written down, and what belongs to it. It holds no token.

    Attributes:
        request: What is to be pushed where.
        folder: The folder as it was named; its files are pinned beside the job.
        nbytes: Bytes of what is pinned.
        digests: Of pinned files that no manifest vouches for: path → digest.
        after: A command line that follows the push.
        calls: Whether a function of the process that added it follows the push.
        metrics, step: Of which moment of training it is.
    """

    request: PushRequest
    folder: str
    nbytes: int
    digests: Mapping[str, str] = field(default_factory=dict)
    after: str | None = None
    calls: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None

    def allowing(self, findings: Collection[str]) -> Ask:
        """The same, with more findings passed over."""
        return replace(self, request=replace(self.request, allow=(*self.request.allow, *findings)))

    def encode(self) -> str:
        """As text, for the database."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A push in an outbox.

    Attributes:
        id: Its name; also in its commit's description, by which a repeated push finds the commit it made already.
        state: `queued` (it waits for its turn, or for the Hub), `running`, `done`, `failed` (for good, unless it is
            retried) or `cancelled`.
        folder: The folder as it was named; what is pushed is what it held when the job was added.
        repo, revision, tag, path_in_repo, endpoint: Where to.
        step, metrics: Of which moment of training.
        nbytes: Bytes of the files that the job holds on to, until it is pushed or cancelled.
        created: When it was added, in seconds since 1970.
        tries: How often it was tried.
        error: Why the last try came to nothing, or what went wrong after the push; None if nothing did.
        hint: What to do about it.
        retry_command: What to type to have it pushed once more, where it failed.
        next_try: When it is tried again at the latest, in seconds since 1970; None where nobody knows.
        receipt: What the push did, once it has.
    """

    id: str
    state: State
    folder: Path
    repo: str
    revision: str
    tag: str | None
    path_in_repo: str
    endpoint: str
    step: int | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    nbytes: int
    created: float
    tries: int
    error: str | None
    hint: str
    retry_command: str | None
    next_try: float | None
    receipt: Receipt | None

    @property
    def pending(self) -> bool:
        """Whether it is still to be pushed."""
        return self.state in ("queued", "running")

    @property
    def advice(self) -> tuple[str, ...]:
        """Lines for whoever is told of the error: what to do about it, and what to type then."""
        again = f"Then push it again, on top of what is there by now: {self.retry_command}"
        return (*self.hint.splitlines(), *([again] if self.retry_command else []))

    def as_document(self) -> dict[str, Any]:
        """The same for `json.dumps`."""
        return {**asdict(self), "folder": str(self.folder)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job that a worker has taken on.

    Attributes:
        is_named: Whether the repository's full name is known, which is asked for first.
        base: The commit that the first try was made for; None if none came so far.
        expected_head: Where this outbox left the branch; where it never pushed to it, where it was when the run began,
            if that was looked up, or `NOBODY` for one that is to begin with this push.
    """

    job: Job
    ask: Ask
    is_named: bool
    base: str | None
    expected_head: str | None


def outbox_command(run: Path, *words: str) -> str:
    """What to type to look at the outbox of a run, or do something with it.

    >>> outbox_command(Path("runs/a"), "drain")
    'perdure outbox drain runs/a'
    """
    return shlex.join(["perdure", "outbox", *words, str(run)])


def decode_ask(text: str) -> Ask:
    """The opposite of `Ask.encode`."""
    ask = json.loads(text)
    request = ask.pop("request")
    target = Target(**request.pop("target"))
    return Ask(request=PushRequest(target=target, **request), **ask)


def encode_receipt(receipt: Receipt) -> str:
    """A receipt as text."""
    return json.dumps(asdict(receipt))


def decode_receipt(text: str) -> Receipt:
    """The opposite of `encode_receipt`."""
    known = {one.name for one in fields(Receipt)}
    found: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in json.loads(text).items()
        if name in known
    }
    return Receipt(**found)


def numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics as JSON takes them: those of NumPy and PyTorch are numbers, too."""
    try:
        return {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"metrics={metrics!r} are not all numbers: {error}. Nothing was queued.") from error


def whole(step: int | None) -> int | None:
    """A step as JSON takes it."""
    try:
        return None if step is None else operator.index(step)
    except TypeError as error:
        raise InvalidInput(f"step={step!r} is no whole number. Nothing was queued.") from error
