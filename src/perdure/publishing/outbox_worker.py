"""The worker of an outbox: one job after the other, until each is done; waits where the Hub is away."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from perdure.errors import PerdureError, Unavailable
from perdure.io.locks import Lock, hold, release
from perdure.publishing import after, once
from perdure.publishing.job import Claim
from perdure.publishing.outbox_away import Hubs
from perdure.publishing.outbox_commands import Commands
from perdure.publishing.outbox_pin import let_go, require_pinned, sweep
from perdure.publishing.outbox_store import Store
from perdure.publishing.publish import publish_to
from perdure.publishing.receipt import Receipt
from perdure.publishing.record import record
from perdure.publishing.remote import Remote

NOW = b"now"  # what the worker is told so that it also asks a Hub that was away
_LONGEST_SECONDS = 300.0
_PARENT_SECONDS = 2.0  # between two looks whether training is still there
_LOCKED_SECONDS = 1.0  # between two looks whether the other worker is done
_LOOK_SECONDS = 1.0  # between two looks for jobs while a command runs


def backoff(failures: int) -> float:
    """Seconds until the next try after so many failures in a row: 1, 2, 4 … 300, less a random part of each.

    The random part keeps the runs of a cluster from coming back all at once.
    """
    return min(2.0 ** min(failures - 1, 30), _LONGEST_SECONDS) * random.uniform(0.5, 1.0)


class Worker:
    """Does the jobs of one outbox. One at a time, whichever process it is in: it has the outbox's lock meanwhile.

    Args:
        store: The outbox.
        token: Of the Hub; by default what the environment has at each try.
        changed: Called whenever a job was changed.
        wait: Seconds to leave a Hub alone after so many failures in a row.
    """

    def __init__(
        self,
        store: Store,
        *,
        token: str | None = None,
        changed: Callable[[], object] = lambda: None,
        wait: Callable[[int], float] = backoff,
    ) -> None:
        self._store = store
        self._token = token
        self._changed = changed
        self._hubs = Hubs(store.folder, wait)
        self._bell = threading.Condition()
        self._rung = False
        self._impatient = False
        self._stopping = False

    def wake(self, *, now: bool) -> None:
        """Look for jobs at once; with `now` also for those of a Hub that was away, unless it asked to be left alone."""
        with self._bell:
            self._rung = True
            self._impatient |= now
            self._bell.notify()

    def stop(self) -> None:
        """Begin no further push, and break off what follows one."""
        with self._bell:
            self._stopping = True
            self._bell.notify()

    def run(self) -> None:
        """Work until `stop`; without a job, sleep."""
        while not self._stopping:
            worked = self.work()
            self._sleep(self._rest() if worked else _LOCKED_SECONDS)

    def work(self) -> bool:
        """Do what is due, until all is done or the Hubs that are left are away.

        Returns:
            False, with nothing done, where another worker is at it.
        """
        if not self._store.pending() and not self._store.unseen():
            return True
        with self._locked() as lock:
            if lock is Lock.BUSY:
                return False
            commands = Commands(self._ring)
            try:
                self._work(commands)
            finally:
                commands.stop()
                self._store.requeue()  # an interruption from the keyboard, too, leaves nothing that looks under way
        return True

    def _work(self, commands: Commands) -> None:
        self._store.requeue()  # what a worker was at when it died
        self._sweep()
        self._look()
        while not self._stopping:
            for ended, command in commands.take():
                self._try(ended, commands, command)
                self._changed()
            if (claim := self._store.claim(paused=self._hubs.paused())) is not None:
                self._try(claim, commands)
                self._changed()
            elif commands.busy:
                self._sleep(_LOOK_SECONDS)
            else:
                return

    def _rest(self) -> float | None:
        """Seconds until a Hub that was away is asked again; None where nothing is left to do."""
        if not self._store.pending():
            return None
        return self._hubs.rest()

    def clear_up(self) -> None:
        """Take back what a worker was at when it was ended, unless another one is at it."""
        if self._store.pending():
            with self._locked() as lock:
                if lock is not Lock.BUSY:
                    self._store.requeue()

    def _sleep(self, seconds: float | None) -> None:
        with self._bell:
            self._bell.wait_for(lambda: self._rung or self._stopping, seconds)
            if self._impatient:
                self._hubs.hurry()
            self._rung = self._impatient = False

    def _ring(self) -> None:
        with self._bell:
            self._rung = True
            self._bell.notify()

    def _try(self, claim: Claim, commands: Commands, command: Future[after.Followed | None] | None = None) -> None:
        """Do what is to be done of a job, but for its command; with `command`, what is left once that has ended."""
        job = claim.job
        try:
            if not claim.is_named:
                self._store.named(job.id, Remote(job.endpoint, self._token).full_name(job.repo))
                return
            receipt = self._store.job(job.id).receipt or self._push(claim)
            let_go(self._store.pin(""), job.id)
            folder = self._store.after(job.id)
            followed = command.result() if command is not None else after.remembered(folder)
            if followed is None and claim.ask.after is not None:
                if command is None:  # else it was broken off: the worker stops
                    commands.begin(claim, receipt, folder)
                return
            problem = self._follow(claim, receipt, followed)
        except Unavailable as error:
            self._store.again(job.id, error, self._hubs.failed(job.endpoint, retry_after=error.retry_after))
            return
        except PerdureError as error:
            self._store.failed(job.id, error.message, error.hint)
        except Exception as error:  # whatever it was, the next job must have its turn
            self._store.failed(job.id, f"{type(error).__name__}: {error}")
        else:
            self._store.done(job.id, problem)
        self._hubs.answered(job.endpoint)

    def _look(self) -> None:
        """Look up where branches are; a Hub that is away is asked again the next time."""
        for endpoint, repo, revision in self._store.unseen():
            with suppress(PerdureError):
                remote = Remote(endpoint, self._token)
                name = remote.full_name(repo)
                found = remote.look(name)
                head = found.branches.get(revision) if found is not None else None
                self._store.seen(endpoint, repo, revision, name=name, head=head or once.NOBODY)

    def _follow(self, claim: Claim, receipt: Receipt, followed: after.Followed | None) -> str | None:
        """Do what is left to do once what follows the push has ended; returns what went wrong."""
        if followed is None:
            return after.NOT_CALLED if claim.ask.calls else None
        return followed.problem or self._record(claim, receipt, followed.results)

    def _record(self, claim: Claim, receipt: Receipt, results: after.Results) -> str | None:
        """Write what was measured onto the card."""
        if not results:
            return None
        job, remote = claim.job.id, Remote(receipt.endpoint, self._token)
        try:
            commit = record(
                remote,
                receipt.repo,
                receipt.revision,
                results,
                push_id=job + once.RESULTS,
                measured=receipt.commit,
                folder=receipt.path_in_repo,
            )
        except Unavailable:
            raise
        except PerdureError as error:  # the push itself is done
            kept = self._store.after(job) / after.DONE
            return f"What was measured could not be written onto the card; it is in {kept}. {error.message}"
        if commit != receipt.commit:
            self._store.pushed(job, replace(receipt, results_commit=commit))
        return None

    def _push(self, claim: Claim) -> Receipt:
        job = claim.job.id
        attempt = once.Attempt(push_id=job, tried_on=claim.base, on_base=lambda base: self._store.set_base(job, base))
        request = replace(claim.ask.request, expected_head=claim.expected_head)
        require_pinned(self._store.pin(job), claim.ask.digests)
        receipt = publish_to(request, self._store.pin(job), token=self._token, attempt=attempt)
        self._store.pushed(job, receipt)
        self._hubs.answered(receipt.endpoint)
        return receipt

    def _sweep(self) -> None:
        """Queue what lies there and is not queued; remove the files of what is over, or was never written down."""
        place = self._store.pin("")
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if hold(descriptor) is Lock.BUSY:  # somebody is adding a job
                return
            self._store.recover()
            over = {job for job, state in self._store.states().items() if state in ("done", "cancelled")}
            sweep(place, over=over)
        finally:
            release(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[Lock]:
        descriptor = os.open(self._store.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield hold(descriptor)
        finally:
            release(descriptor)


def main(run: str) -> None:
    """Work for the process at the other end of standard input: its first line says as whom; its end ends the work."""
    with suppress(OSError):
        os.nice(19)
    _weigh(19)
    orders = sys.stdin.buffer
    told = json.loads(orders.readline() or b"{}")
    worker = Worker(Store(Path(run)), token=told.get("token"), changed=_tell)
    terminal, log = told.get("terminal"), os.dup(2)

    def outlive_nobody() -> None:  # a child that training forked has the other end of our input, too
        while os.getppid() == told.get("parent"):
            time.sleep(_PARENT_SECONDS)
        worker.stop()

    def obey() -> None:
        while order := orders.readline():
            now = order.strip() == NOW
            _weigh(0 if now else 19)
            if terminal is not None:  # the client shows its progress where standard error is one
                os.dup2(terminal if now else log, 2)
            worker.wake(now=now)
        worker.stop()

    for watch in (obey, outlive_nobody):
        threading.Thread(target=watch, name=f"perdure-outbox-{watch.__name__}", daemon=True).start()
    worker.run()


def _weigh(nice: int) -> None:
    """Weigh this session beside others, where Linux does so: beside training's that of a process alone has no say.

    Args:
        nice: 19 while others work; 0 when somebody waits.
    """
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))


def _tell() -> None:
    with suppress(OSError):  # whoever wanted to know is gone
        sys.stdout.write("\n")
        sys.stdout.flush()
