"""What a process is told of the jobs of its outbox: each thing once."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from perdure.publishing.job import Job

_log = logging.getLogger("perdure")


class Teller:
    """Logs what becomes of jobs; a reason that many have in common is a warning once.

    Args:
        run: The run whose outbox it is.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._warned: set[str] = set()

    def tell(self, job: Job, *, waits: bool) -> None:
        """Tell of a job that has changed.

        Args:
            waits: For a Hub that is away.
        """
        what = f"{job.folder} to {job.repo} ({job.revision})"
        if job.state == "done" and job.receipt is not None:
            self._warned.discard(f"away: {job.endpoint}")
            _log.info("Published %s: %s", what, job.receipt.commit_url)
            if job.error:
                _log.warning("What follows the push of %s went wrong: %s", what, job.error)
        elif job.state == "failed":
            reason = re.sub(r"\b[0-9a-f]{6,}\b|\d+", "#", job.error or "")  # of every checkpoint it would be the same
            todo = "\n  ".join(job.advice)
            self._warn_once(reason, "Publishing %s failed: %s\n  %s", what, job.error, todo)
        elif waits:
            away = f"away: {job.endpoint}"
            self._warn_once(away, "Publishing %s waits in the outbox of %s: %s", what, self._run, job.error)

    def _warn_once(self, about: str, message: str, *values: object) -> None:
        level = logging.INFO if about in self._warned else logging.WARNING
        self._warned.add(about)
        _log.log(level, message, *values)
