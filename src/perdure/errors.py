"""Everything perdure raises, grouped by what the caller does about it.

```text
PerdureError                              catch this to catch them all
├─ InvalidInput (ValueError)              fix the call
├─ NotFound (FileNotFoundError)           name something that exists
├─ AlreadyExists (FileExistsError)        choose another name
├─ Corrupt                                fall back to an older one
├─ UnsupportedFormat                      upgrade perdure
├─ StateMismatch                          resume with the run that was saved, or say strict=False
├─ CheckFailed                            something must not leave the machine: remove it, or allow it
├─ SaveFailed                             nothing was replaced; free space or mend the folder, then save again
├─ HubError
│  ├─ Unauthorized                        give a token that may do this
│  ├─ Rejected                            the Hub said no for good: fix what it names
│  ├─ Conflict                            somebody else was first: fetch, then try again
│  └─ Unavailable                         try again later
└─ MissingDependency (ImportError)        install what it names
```

`str(error)` says what happened, to what, and whether anything was lost; `error.hint` says what to type next.
`error.kind` is a short stable name for programs (JSON output, logs), independent of the class's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar


class PerdureError(Exception):
    """The root of the tree above.

    Args:
        message: What happened, to what, and whether anything was lost.
        hint: What to do or type next; empty when the message says it all.
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def as_document(self) -> dict[str, Any]:
        """The kind and all that the error was made with, as JSON knows it, for another process."""
        details = {name: value for name, value in vars(self).items() if not name.startswith("_")}  # no __notes__
        return {"kind": self.kind} | {n: str(v) if isinstance(v, Path) else v for n, v in details.items()}

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> PerdureError:
        """The error of which this is the `as_document`, of the same class."""
        details = dict(document)
        kind = details.pop("kind")
        return next(one for one in _family(PerdureError) if one.kind == kind)(**details)


def _family(root: type[PerdureError]) -> Iterator[type[PerdureError]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


class InvalidInput(PerdureError, ValueError):
    """The call itself is wrong; nothing was touched."""

    kind = "invalid-input"


class NotFound(PerdureError, FileNotFoundError):
    """What the call names does not exist."""

    kind = "not-found"


class AlreadyExists(PerdureError, FileExistsError):
    """What the call would create is there already."""

    kind = "already-exists"


class Corrupt(PerdureError):
    """Bytes are not what they were when they were written.

    Args:
        path: The damaged file.
        tensor: The damaged tensor in it, where one can be named.
        expected: The digest or size on record.
        got: The digest or size found.
    """

    kind = "corrupt"
    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        tensor: str | None = None,
        expected: str | int | None = None,
        got: str | int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.path = None if path is None else Path(path)
        self.tensor = tensor
        self.expected = expected
        self.got = got


class UnsupportedFormat(PerdureError):
    """Written in a format, or a version of it, that this perdure does not read."""

    kind = "unsupported-format"


class StateMismatch(PerdureError):
    """A checkpoint is not of the run that would resume from it.

    Args:
        differences: What differs, one entry each.
    """

    kind = "state-mismatch"

    def __init__(self, message: str, *, differences: Iterable[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.differences = tuple(differences)


class CheckFailed(PerdureError):
    """What was to be published holds something that must not leave the machine unnoticed. Nothing was sent.

    Args:
        findings: What was found, each as `path:line:kind`; line 0 is the file as a whole.
    """

    kind = "check-failed"
    exit_code = 1

    def __init__(self, message: str, *, findings: Iterable[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.findings = tuple(findings)


class SaveFailed(PerdureError):
    """A save did not happen; what was there before is whole. The cause is in `__cause__`.

    Args:
        rank: The process on which it failed, where several train together.
    """

    kind = "save-failed"
    exit_code = 1

    def __init__(self, message: str, *, rank: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.rank = rank


class HubError(PerdureError):
    """A Hub, huggingface.co or another, did not do what was asked."""

    kind = "hub"
    exit_code = 3


class Unauthorized(HubError):
    """No token, a wrong one, or one that may not do this."""

    kind = "unauthorized"
    exit_code = 2


class Rejected(HubError):
    """The Hub refused for good; trying again changes nothing."""

    kind = "rejected"
    exit_code = 2


class Conflict(HubError):
    """The branch or tag is no longer what the caller thought it was."""

    kind = "conflict"
    exit_code = 1


class Unavailable(HubError):
    """The Hub is away, overloaded or out of reach; the same call may succeed later.

    Args:
        retry_after: Seconds for which the Hub asked to be left alone; 0 where it did not say.
    """

    kind = "unavailable"

    def __init__(self, message: str, *, retry_after: float = 0.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class MissingDependency(PerdureError, ImportError):
    """An optional library is needed for this; the message holds the install line."""

    kind = "missing-dependency"
