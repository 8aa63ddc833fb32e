"""The outbox of a run: pushes are written down before they are tried, and done while training goes on."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from perdure.errors import SaveFailed
from perdure.folder.paths import resolve
from perdure.io.locks import pinned
from perdure.publishing.after import LIMIT_SECONDS, words
from perdure.publishing.job import Ask, Job, numbers, whole
from perdure.publishing.outbox_functions import Functions
from perdure.publishing.outbox_pin import Written, let_go, make, pin
from perdure.publishing.outbox_process import WorkerProcess
from perdure.publishing.outbox_store import Store, new_id
from perdure.publishing.outbox_tell import Teller
from perdure.publishing.outbox_worker import Worker
from perdure.publishing.receipt import Receipt
from perdure.publishing.request import PushRequest
from perdure.publishing.secrets import require_clean_words
from perdure.publishing.target import MAIN, Target, endpoint_in_force

_log = logging.getLogger("perdure")
_LOOK_SECONDS = 0.5  # between two looks at what another process may have done


class Outbox:
    """Pushes of a run that are never lost: each is on disk before it is tried, and tried until it is done.

    The jobs lie in the run's folder. What a job refers to is held, by hard links, until it is done: rotation, a later
    save into the same folder and `rm -r` cannot take it away, and free no disk until then. One worker at a time, a
    process of its own with the lowest priority, pushes one job after the other; it waits longer and longer for a Hub
    that is away, and never sends anything twice: whatever is killed when, each job ends in exactly one commit, or as
    `failed` with the reason.

    Args:
        run: The run's folder; made when the first job is added.
        token: For the Hub; by default `HF_TOKEN`, or what `hf auth login` stored. It is never written anywhere.

    ```python
    box = perdure.Outbox("runs/a")
    box.add("runs/a/checkpoint-200", "me/my-model", revision="step-200")
    box.start()  # in the background, while training goes on
    ...
    box.drain(timeout=600)
    box.stop()
    ```
    """

    def __init__(self, run: str | os.PathLike[str], *, token: str | None = None) -> None:
        self.run = resolve(Path(run))
        self._store = Store(self.run)
        self._token = token
        self._functions = Functions(self._store, self._called)
        self._waited_for = False
        self._started = False
        self._reporting = threading.RLock()
        self._told = self._store.states()
        self._teller = Teller(self.run)
        self._worker = WorkerProcess(self.run, self._store.folder, token, self._report)

    def add(
        self,
        folder: str | os.PathLike[str],
        repo: str,
        *,
        revision: str = MAIN,
        path_in_repo: str = "",
        tag: str | None = None,
        private: bool | None = None,
        message: str | None = None,
        endpoint: str | None = None,
        start: str | None = None,
        training_state: bool = False,
        after: str | Callable[[Receipt], object] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int | None = None,
        overwrite: bool = False,
        allow: Collection[str] = (),
    ) -> Job:
        """Write a push down. When this returns it outlives whatever happens to this process and to `folder`.

        Nothing is asked of the Hub. Jobs of one branch are pushed in the order in which they were added; where somebody
        else committed to it in between, the job ends as `failed` and nothing of theirs is overwritten.

        Args:
            folder: What `save_model` or a checkpointer wrote, or another model folder.
            repo, revision, path_in_repo, tag, private, message, endpoint, allow: As for `publish`.
            start: Where a branch that is new begins: at the head of `main`, or for "first" at the repository's first
                commit; then it is this run's own, and one that another run has pushed to is left as it is.
            training_state: Also send what only resuming needs: the optimizer, the place in the data.
            after: What follows the push once it has succeeded: a command line, which is run without a shell, for an
                hour at the most, and is told in its environment what was pushed where (`PERDURE_REPO`, `_REVISION`,
                `_COMMIT`, `_ENDPOINT`, `_STEP`, `_METRICS`), and where to leave what it measured (`_RESULTS`); or a
                callable, which is called with the `Receipt` in this process, on a thread of its own, and may return
                what it measured; if this process ends before, the job says so. What was measured, metric → number (or
                a dataset's id → metric → number, for the `model-index`), is written onto the card in one more commit.
                Other pushes do not wait for it; one that reaches the branch first keeps its card as it is.
                Where it fails, that is told, and costs nothing.
            metrics, step: Of which moment of training it is; for whoever looks at the job, and for `after`.
            overwrite: Push also where somebody else committed to the branch after this outbox did.

        Raises:
            InvalidInput, NotFound: The folder or a name is wrong.
            Corrupt: A save into the folder stopped half way.
            CheckFailed: There is a token or a password in the message or in the command.
            SaveFailed: The disk refused. Nothing was queued, nor is held.
        """
        request = PushRequest(
            target=Target(
                repo=repo, revision=revision, path_in_repo=path_in_repo, tag=tag, endpoint=endpoint_in_force(endpoint)
            ),
            private=private, message=message, start=start, training_state=training_state, allow=tuple(allow),
        )  # fmt: skip
        require_clean_words("message", message)
        if isinstance(after, str):
            words(after)
        ask = Ask(
            request=request, folder=str(resolve(Path(folder))), nbytes=0, metrics=numbers(metrics or {}),
            after=after if isinstance(after, str) else None, calls=callable(after), step=whole(step),
        )  # fmt: skip
        job, jobs = new_id(), self._store.pin("")
        make(jobs)
        with pinned(jobs):  # files without a job are leftovers to everybody else
            try:
                held = pin(Path(ask.folder), self._store.pin(job), training_state=training_state)
                ask = replace(ask, nbytes=held.nbytes, digests=held.digests)
                if callable(after):
                    self._functions.add(job, after)
                written = Written(job=job, ask=ask, created=time.time(), guarded=not overwrite)
                written.write(jobs)
                added = self._store.add(written)
            except BaseException:
                self._functions.discard(job)
                let_go(jobs, job)
                raise
        self._wake()
        return added

    def jobs(self) -> tuple[Job, ...]:
        """All jobs that were ever added, oldest first."""
        return tuple(self._store.jobs())

    def start(self) -> None:
        """Push in the background from now on. While nothing is queued nothing runs."""
        self._started = True
        if self._store.pending() or self._store.unseen():
            self._wake()

    def watch(self, repo: str, *, revision: str = MAIN, endpoint: str | None = None) -> None:
        """Have the worker look up where a branch is when a run begins.

        Where somebody else commits to it before the first push of this outbox, that push ends as `failed`. Nothing is
        waited for; a Hub that is away then is asked again when there is something to push.

        Args:
            repo, revision, endpoint: As for `publish`.
        """
        make(self._store.pin(""))
        self._store.watch(Target(repo=repo, revision=revision, endpoint=endpoint_in_force(endpoint)))
        self._wake()

    def stop(self, timeout: float = 0.0) -> None:
        """Push no more in the background.

        Args:
            timeout: Seconds for the push under way. One that is not done by then is broken off, stays queued, and is
                pushed by the next worker.
        """
        self._started = False
        self._worker.stop(timeout)
        Worker(self._store).clear_up()

    def drain(self, timeout: float | None = None) -> tuple[Job, ...]:
        """Wait until every job is done, or failed for good; on a terminal the bytes that are sent are shown.

        Args:
            timeout: Seconds, at the most; as long as it takes by default.

        Returns:
            The jobs that are left: none if all were tried to the end.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        if self._store.pending():
            self._worker.wake(now=True)
        self._waited_for = True
        while self._unfinished() and (rest := until - time.monotonic()) > 0:
            self._worker.keep_alive()
            self._worker.wait(min(rest, _LOOK_SECONDS))
        self._waited_for = False
        if not self._started:
            self.stop()
        self._wake()  # nobody waits any more
        self._report()
        return tuple(job for job in self._store.jobs() if job.pending)

    def attempt(self, job: str) -> Job:
        """Push a job now, in this process, after those that come before it; on a terminal its progress is shown.

        Where another worker is at it, that one is waited for.

        Args:
            job: Its id.

        Returns:
            The job after one more try; still queued where the Hub is away.
        """
        tries = self._store.job(job).tries
        here = Worker(self._store, token=self._token)
        if not here.work():
            self._wake(now=True)
            while (found := self._store.job(job)).pending and (found.state == "running" or found.tries == tries):
                if here.work():
                    break
                self._worker.wait(_LOOK_SECONDS)
            self._wake()
        self._report()
        self._functions.wait(LIMIT_SECONDS)
        here.work()  # what a function measured that followed it
        return self._store.job(job)

    def retry(self, job: str, *, allow: Collection[str] = (), overwrite: bool = True) -> Job:
        """Queue a job that failed once more.

        Args:
            job: Its id, or as much of its beginning as is needed.
            allow: What may leave the machine although it looks as if it must not: ids that its error named.
            overwrite: Push on top of whatever the branch holds by now; otherwise only where nobody else committed to
                it, as when the job was added.

        Raises:
            NotFound, InvalidInput: There is no such job, it did not fail, or a later one is on its branch by now.
        """
        found = self._store.job(job)
        self._store.retry(found.id, allow=allow, overwrite=overwrite)
        self._wake()
        return self._store.job(found.id)

    def cancel(self, job: str) -> Job:
        """Give up a job that waits or failed, and let go of its files.

        Args:
            job: Its id, or as much of its beginning as is needed.

        Raises:
            NotFound, InvalidInput: There is no such job, or it is being pushed or was pushed already.
        """
        found = self._store.job(job)
        self._store.cancel(found.id)
        let_go(self._store.pin(""), found.id)
        return self._store.job(found.id)

    def _wake(self, *, now: bool = False) -> None:
        """Have the worker look at what is new; where it cannot run, the jobs wait for one that can.

        Args:
            now: Somebody waits for it.
        """
        try:
            if self._started:
                self._worker.wake(now=now)
        except SaveFailed as error:
            _log.warning("%s", error)

    def _unfinished(self) -> bool:
        """Whether something is left to do, also once what follows the pushes that are done has had its turn."""
        if self._store.pending():
            return True
        self._report()
        busy = self._functions.busy  # before what its end may queue is looked for
        if self._store.pending():
            self._worker.wake(now=True)
            return True
        return busy

    def _called(self) -> None:
        """A function that followed a push has ended; what it measured may be queued."""
        if self._waited_for and self._store.pending():
            self._worker.wake(now=True)
        else:
            self._wake()
        self._report()
        self._worker.ring()

    def _report(self) -> None:
        """Tell of what has changed, and have done what this process wants to follow a push."""
        with self._reporting:
            for job, state in self._store.states().items():
                if state == "done":
                    self._functions.begin(job)
                if self._told.get(job) != state and not self._functions.is_at(job):
                    self._told[job] = state
                    self._teller.tell(self._store.job(job), waits=state == "waits")
