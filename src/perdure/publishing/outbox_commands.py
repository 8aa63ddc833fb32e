"""Commands that follow pushes: one after the other, on a thread, so that the pushes go on meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from perdure.publishing import after
from perdure.publishing.job import Claim
from perdure.publishing.receipt import Receipt


class Commands:
    """Runs commands; whose turn it is, and what is done with what they measured, is the worker's.

    Args:
        ended: Called on that thread when one has ended.
    """

    def __init__(self, ended: Callable[[], object]) -> None:
        self._ended = ended
        self._begun: list[tuple[Claim, Future[after.Followed | None]]] = []
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="perdure-after-push")
        self._leash, self._hand = os.pipe()

    @property
    def busy(self) -> bool:
        """Whether one is still to end, or to be taken."""
        return bool(self._begun)

    def begin(self, claim: Claim, receipt: Receipt, folder: Path) -> None:
        """Run the command of a job once those before it have ended.

        Args:
            receipt: Of its push.
            folder: As for `after.run`.
        """
        begun = self._pool.submit(self._run, claim, receipt, folder)
        self._begun.append((claim, begun))
        begun.add_done_callback(lambda _: self._ended())

    def take(self) -> list[tuple[Claim, Future[after.Followed | None]]]:
        """Those that have ended since."""
        over = [one for one in self._begun if one[1].done()]
        self._begun = [one for one in self._begun if one not in over]
        return over

    def stop(self) -> None:
        """End the one that runs, with all that it started, and begin no other; they are as if never begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        os.write(self._hand, b"\n")  # not the end alone: a child that was forked here has that, too
        self._pool.shutdown()
        os.close(self._hand)
        os.close(self._leash)

    def _run(self, claim: Claim, receipt: Receipt, folder: Path) -> after.Followed | None:
        ask = claim.ask
        assert ask.after is not None, "it has a command"
        followed = after.run(ask.after, receipt, step=ask.step, metrics=ask.metrics, folder=folder, leash=self._leash)
        if followed is not None:
            followed.remember(folder)
        return followed
