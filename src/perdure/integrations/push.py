"""Publishing at the end of a run: what the Trainer's own arguments say, and never at the cost of the run."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.errors import InvalidInput, PerdureError
from perdure.format.hub_id import is_hub_id

if TYPE_CHECKING:
    from perdure.publishing.publish import Receipt

_log = logging.getLogger("perdure")
_MAIN = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Where to publish, and as whom. The token is in no text made from this."""

    repo: str
    revision: str = _MAIN
    tag: str | None = None
    private: bool | None = None
    token: str | None = field(default=None, repr=False)
    endpoint: str | None = None

    @classmethod
    def wanted(
        cls,
        trainer: Any,
        folder: Path,
        *,
        want: bool | None,
        repo: str | None,
        tag: str | None,
        private: bool | None,
        token: str | None,
        endpoint: str | None,
    ) -> Push | None:
        """The push that the caller or the trainer's arguments ask for; None if they ask for none.

        Args:
            want: True and False decide; None leaves it to `repo` and to `args.push_to_hub`.
        """
        args = trainer.args
        if not (want if want is not None else repo is not None or args.push_to_hub):
            return None
        return cls(
            # The trainer's own attribute has the namespace that the Hub resolved, where it made the repository.
            repo=repo or getattr(trainer, "hub_model_id", None) or args.hub_model_id or folder.name,
            revision=args.hub_revision or _MAIN,
            tag=tag,
            private=private if private is not None else args.hub_private_repo,
            token=token or args.hub_token,
            endpoint=endpoint,
        )

    @property
    def address(self) -> str | None:
        """The id to load the model by once it is published; None where that is not certain beforehand."""
        return self.repo if "/" in self.repo and is_hub_id(self.repo) and self.revision == _MAIN else None


def push(wanted: Push, folder: Path, *, method: str | None, steps: int) -> tuple[Receipt | None, str | None]:
    """Publish a saved folder.

    Returns:
        The receipt and None, or None and a message: why it failed, what lies where, and how to push later.
    """
    message = f"End of training ({f'{method}, ' if method else ''}{steps} steps)"
    try:
        from perdure.publishing.publish import publish

        receipt = publish(
            folder,
            wanted.repo,
            revision=wanted.revision,
            tag=wanted.tag,
            private=wanted.private,
            message=message,
            token=wanted.token,
            endpoint=wanted.endpoint,
        )
    except Exception as error:  # a finished run must not end in a traceback for the network's sake
        failure = _explain(error, wanted, folder)
        _log.warning("%s", failure, exc_info=None if isinstance(error, PerdureError) else error)
        return None, failure
    _log.info("Published %s at %s", receipt.url, receipt.commit)
    return receipt, None


def _explain(error: Exception, wanted: Push, folder: Path) -> str:
    later = _command(wanted, folder)
    reason = error.message if isinstance(error, PerdureError) else f"{type(error).__name__}: {error}"
    hint = error.hint if isinstance(error, PerdureError) else ""
    lines = [
        f"The model is saved in {folder}, but it was not published to {wanted.repo}:",
        f"  {reason}",
        *(f"  {line.strip()}" for line in hint.splitlines() if "perdure push" not in line),
        "Publish it later with:",
        f"  {later}",
    ]
    return "\n".join(lines)


def _command(wanted: Push, folder: Path) -> str:
    from perdure.publishing.target import Target, endpoint_in_force

    try:
        target = Target(
            repo=wanted.repo,
            revision=wanted.revision,
            tag=wanted.tag,
            endpoint=endpoint_in_force(wanted.endpoint),
        )
        return target.push_command(folder, private=wanted.private)
    except InvalidInput:  # a name in it is what was wrong
        return shlex.join(["perdure", "push", str(folder), "NAMESPACE/NAME"])
