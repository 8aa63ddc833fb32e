"""Publishing at the end of a run: what the Trainer's own arguments say, and never at the cost of the run."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from perdure.errors import InvalidInput, PerdureError, SaveFailed
from perdure.format.hub_id import is_hub_id
from perdure.publishing.job import Job, outbox_command
from perdure.publishing.outbox import Outbox
from perdure.publishing.publish import publish_to
from perdure.publishing.receipt import Receipt
from perdure.publishing.request import PushRequest
from perdure.publishing.target import MAIN, Target, endpoint_in_force

_log = logging.getLogger("perdure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Where to publish, and as whom. The token is in no text made from this.

    Attributes:
        repo: The repository's name, as it was asked for.
        request: What is to be pushed there; or why it cannot be, which is told once the model is saved.
        token: Of the Hub; None for what the environment has.
    """

    repo: str
    request: PushRequest | InvalidInput
    token: str | None = field(default=None, repr=False)

    @classmethod
    def wanted(
        cls,
        trainer: Any,
        folder: Path,
        *,
        want: bool | None,
        repo: str | None,
        revision: str | None,
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
        # The trainer's own attribute has the namespace that the Hub resolved, where it made the repository.
        repo = (
            repo
            if repo is not None
            else str(getattr(trainer, "hub_model_id", None) or args.hub_model_id or folder.name)
        )
        return cls(
            repo=repo,
            request=_request(
                repo, revision=revision or args.hub_revision or MAIN, tag=tag, endpoint=endpoint_in_force(endpoint),
                private=private if private is not None else args.hub_private_repo,
            ),
            token=token or args.hub_token,
        )  # fmt: skip

    @property
    def address(self) -> str | None:
        """The id to load the model by once it is published; None where that is not certain beforehand."""
        if isinstance(self.request, InvalidInput) or self.request.target.revision != MAIN:
            return None
        return self.repo if "/" in self.repo and is_hub_id(self.repo) else None

    def command(self, folder: Path) -> str:
        """The shell command that does this push later."""
        if isinstance(self.request, InvalidInput):
            return shlex.join(["perdure", "push", str(folder), "NAMESPACE/NAME"])
        return self.request.command(folder)


def _request(
    repo: str, *, revision: str, tag: str | None, endpoint: str, private: bool | None
) -> PushRequest | InvalidInput:
    try:
        target = Target(repo=repo, revision=revision, tag=tag, endpoint=endpoint)
        return PushRequest(target=target, private=private)
    except InvalidInput as error:  # a name that is none must cost a trained model nothing but the push
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What came of the push at the end of a run.

    Attributes:
        receipt: What was published; None if nothing was.
        error: Why nothing was, what lies where, and how to push it later.
        waits_in: The run in whose outbox it waits, as `error` tells.
        failed: The job that failed, as `error` tells; `perdure outbox retry` has it, too.
    """

    receipt: Receipt | None = None
    error: str | None = None
    waits_in: Path | None = None
    failed: str | None = None


def push(
    wanted: Push, folder: Path, *, box: Outbox | None, method: str | None, steps: int, wait: float | None
) -> Pushed:
    """Publish a saved folder.

    Args:
        box: The outbox of that folder, where there is one at work.
        wait: Seconds after which it is left to the outbox; None to try once, for as long as that takes.
    """
    message = f"End of training ({f'{method}, ' if method else ''}{steps} steps)"
    unexpected: Exception | None = None
    try:
        if isinstance(wanted.request, InvalidInput):
            raise wanted.request
        request = replace(wanted.request, message=message)
        wanted = replace(wanted, request=request)
        box = box or Outbox(folder, token=wanted.token)
        queued = _queue(box, request, folder)
        if queued is None:
            return Pushed(receipt=publish_to(request, folder, token=wanted.token))
        done = _outcome(wanted, box, queued, folder, wait)
    except PerdureError as error:
        done = Pushed(error=_failure(wanted, folder, error.message, error.hint))
    except Exception as error:  # a finished run must not end in a traceback for the network's sake
        done = Pushed(error=_failure(wanted, folder, f"{type(error).__name__}: {error}"))
        unexpected = error
    if done.error:
        _log.warning("%s", done.error, exc_info=unexpected)
    return done


def settle(box: Outbox | None, folder: Path, *, wait: float | None, is_drained: bool, pushed: Pushed) -> str | None:
    """End the pushes of checkpoints in the background; returns what is left of them, and what to type.

    Args:
        box: Where they are; by default, the outbox of `folder`.
        wait: Seconds for them, as for `push`.
        is_drained: They were waited for just now.
        pushed: What came of the push of the model; what it told is not told again.
    """
    run = folder if box is None else box.run
    is_told = pushed.waits_in == run
    try:
        box = box or Outbox(folder)
        pending = [job for job in box.jobs() if job.pending]
        if pending and wait is None and not is_told:
            box.attempt(pending[-1].id)
        elif pending and wait is not None and not is_drained:
            box.drain(wait)
        box.stop()
        jobs = box.jobs()
    except PerdureError as error:
        return f"The pushes of checkpoints could not be done: {error.message} {error.hint}".strip()
    lines = []
    if (left := sum(job.pending for job in jobs)) and not is_told:
        lines.append(f"Still to be pushed, in the outbox: {left}. Push with: {outbox_command(run, 'drain')}")
    if failed := sum(job.state == "failed" and job.id != pushed.failed for job in jobs):
        lines.append(f"Pushes that failed: {failed}. Why, and what to type, says: {outbox_command(run)}")
    if wrong := sum(job.state == "done" and job.error is not None for job in jobs):
        lines.append(f"Pushes after which something went wrong: {wrong}. What, says: {outbox_command(run)}")
    return " ".join(lines) or None


def _queue(box: Outbox, request: PushRequest, folder: Path) -> Job | None:
    """Write the push down before it is tried, in place of those that failed; None where the disk has no room."""
    target = request.target
    try:
        for job in box.jobs():
            there = (job.endpoint, job.repo, job.revision)
            if job.state == "failed" and job.step is None and there == (target.endpoint, target.repo, target.revision):
                box.cancel(job.id)
        return box.add(
            folder, target.repo, revision=target.revision, tag=target.tag, private=request.private,
            message=request.message, endpoint=target.endpoint,
        )  # fmt: skip
    except SaveFailed:
        return None


def _outcome(wanted: Push, box: Outbox, job: Job, folder: Path, wait: float | None) -> Pushed:
    if wait is None:
        box.attempt(job.id)
    else:
        box.drain(wait)
    jobs = {one.id: one for one in box.jobs()}
    job = jobs[job.id]
    if job.receipt is not None:
        return Pushed(receipt=job.receipt)
    if job.pending:
        others = sum(one.pending for one in jobs.values()) - 1
        with_them = f", with {others} more" if others else ""
        why = f": {job.error}" if job.error else "."
        error = (
            f"The model is saved in {folder}, and its publishing to {wanted.repo} waits in the outbox{with_them}{why} "
            f"Push it with: {outbox_command(box.run, 'drain')}"
        )
        return Pushed(error=error, waits_in=box.run)
    return Pushed(error=_failure(wanted, folder, job.error or "", job.hint), failed=job.id)


def _failure(wanted: Push, folder: Path, reason: str, hint: str = "") -> str:
    lines = [
        f"The model is saved in {folder}, but publishing it to {wanted.repo} failed:",
        f"  {reason}",
        *(f"  {line.strip()}" for line in hint.splitlines()),
        "Publish it later with:",
        f"  {wanted.command(folder)}",
    ]
    return "\n".join(lines)
