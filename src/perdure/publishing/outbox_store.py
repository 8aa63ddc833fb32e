"""The jobs of an outbox, in its SQLite file: each change is durable before anything else happens."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from perdure.errors import HubError, InvalidInput, NotFound
from perdure.format.names import OUTBOX
from perdure.publishing.job import Claim, Job, State, decode_ask, decode_receipt, encode_receipt, outbox_command
from perdure.publishing.once import NOBODY
from perdure.publishing.outbox_pin import Written, written_down
from perdure.publishing.outbox_schema import branch_of, insert, transaction
from perdure.publishing.receipt import Receipt
from perdure.publishing.target import Target

_FOLDER = "$.request.target.path_in_repo"
_COLUMNS = "id, state, ask, created, tries, error, hint, next_try, receipt"


class Store:
    """The jobs of one run's outbox. Safe to use from any thread and process.

    Every method but `jobs` raises `SaveFailed` where the disk refuses; all raise `Corrupt` for a damaged database and
    `UnsupportedFormat` for one of a newer perdure.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.folder = run / OUTBOX

    @property
    def exists(self) -> bool:
        """Whether a job was ever added."""
        return self.pin("").is_dir()

    def pin(self, job: str) -> Path:
        """The folder in which the files of a job are held."""
        return self.folder / "jobs" / job

    def after(self, job: str) -> Path:
        """The folder of what follows a job's push: what it printed, and what it measured."""
        return self.folder / "after" / job

    def add(self, written: Written) -> Job:
        """Queue a job that is written down beside its files; it is durable when this returns."""
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM jobs WHERE id = ?", (written.job,)).fetchone() is None:  # not just recovered
                insert(db, written)
        return self.job(written.job)

    def recover(self) -> None:
        """Queue the jobs that lie in files but not in the database."""
        with self._transaction() as db:
            self._recover(db)

    def jobs(self) -> list[Job]:
        """All jobs, in the order in which they were added."""
        if not self.exists:
            return []
        with self._transaction(write=False) as db:
            return [self._job(row) for row in db.execute(f"SELECT {_COLUMNS} FROM jobs ORDER BY seq")]

    def job(self, job: str) -> Job:
        """One job, by its id or the beginning of it.

        Raises:
            NotFound: There is none.
            InvalidInput: Several begin so.
        """
        found = self._beginning(job) if job and self.exists else []
        if not found:
            raise NotFound(f"There is no job {job} in {self.folder}.", hint="`perdure outbox` lists them.")
        if len(found) > 1:
            raise InvalidInput(f"Several jobs in {self.folder} begin with {job}.", hint="Write more of the id.")
        return found[0]

    def states(self) -> dict[str, str]:
        """Of each job its state, `waits` for one that is queued again; in the order in which they were added."""
        if not self.exists:
            return {}
        with self._transaction(write=False) as db:
            waits = "CASE WHEN state = 'queued' AND error IS NOT NULL THEN 'waits' ELSE state END"
            return dict(db.execute(f"SELECT id, {waits} FROM jobs ORDER BY seq"))

    def pending(self) -> bool:
        """Whether something is left to do."""
        if not self.exists:
            return False
        with self._transaction(write=False) as db:
            return db.execute("SELECT 1 FROM jobs WHERE state IN ('queued', 'running')").fetchone() is not None

    # ── what the worker does; it has the outbox's lock ──

    def requeue(self) -> None:
        """Take back what a worker was at when it died."""
        with self._transaction() as db:
            db.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")

    def claim(self, *, paused: Collection[str] = ()) -> Claim | None:
        """Take on the next job whose turn it is; None if there is none.

        Jobs of a branch keep their order; one that is pushed holds up none, whatever follows its push. Of different
        branches the one that was tried least is first: one that fails whenever it is tried does not hold up the others.
        A finished model goes before checkpoints, which are of a step.

        The first of all are those whose repository's full name is to be asked for: until then nobody knows its branch.

        Args:
            paused: Endpoints that are left alone for the moment.
        """
        marks = ", ".join("?" * len(paused))
        with self._transaction() as db:
            next_one = db.execute(
                f"SELECT seq FROM jobs AS one WHERE state = 'queued' AND endpoint NOT IN ({marks}) "
                "AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE "
                "other.branch = one.branch AND other.seq < one.seq AND other.state = 'queued' "
                "AND other.receipt IS NULL) "
                "ORDER BY branch <> '', tries - (receipt IS NOT NULL), step IS NOT NULL, seq LIMIT 1",
                tuple(paused),
            ).fetchone()
            if next_one is None:
                return None
            db.execute("UPDATE jobs SET state = 'running', tries = tries + (branch <> '') WHERE seq = ?", next_one)
            row = db.execute(
                f"SELECT {_COLUMNS}, branch <> '', base, guarded, (SELECT receipt FROM jobs AS other WHERE "
                "other.branch = one.branch AND receipt IS NOT NULL ORDER BY pushed DESC LIMIT 1), "
                "(SELECT head FROM branches WHERE branches.branch = one.branch) FROM jobs AS one WHERE seq = ?",
                next_one,
            ).fetchone()
        job, (is_named, base, guarded, last, seen) = self._job(row[:-5]), row[-5:]
        ask = decode_ask(row[2])
        head = decode_receipt(last).head if last is not None else NOBODY if ask.request.start == "first" else seen
        return Claim(job=job, ask=ask, is_named=bool(is_named), base=base, expected_head=head if guarded else None)

    def named(self, job: str, repo: str) -> None:
        """Record the full name of a job's repository, and queue it among those of its branch.

        Raises:
            InvalidInput: A later one was pushed there already.
        """
        with self._transaction() as db:
            (ask,) = db.execute("SELECT ask FROM jobs WHERE id = ?", (job,)).fetchone()
            target = decode_ask(ask).request.target
            branch = branch_of(target.endpoint, repo, target.revision)
            db.execute("UPDATE jobs SET state = 'queued', branch = ? WHERE id = ?", (branch, job))
            self._require_newest(db, job)

    def watch(self, target: Target) -> None:
        """Have it looked up where a branch is now, unless jobs wait: those were added at another time."""
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM jobs WHERE state IN ('queued', 'running')").fetchone() is None:
                names = (target.endpoint, target.repo, target.revision)
                db.execute("INSERT OR REPLACE INTO branches (endpoint, repo, revision) VALUES (?, ?, ?)", names)

    def unseen(self) -> list[tuple[str, str, str]]:
        """Branches whose heads are to be looked up: endpoint, repository and revision of each."""
        if not self.exists:
            return []
        with self._transaction(write=False) as db:
            return db.execute("SELECT endpoint, repo, revision FROM branches WHERE head IS NULL").fetchall()

    def seen(self, endpoint: str, repo: str, revision: str, *, name: str, head: str) -> None:
        """Record where a branch was when it was looked up.

        Args:
            name: The repository's full name.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE branches SET branch = ?, head = ? WHERE endpoint = ? AND repo = ? AND revision = ?",
                (branch_of(endpoint, name, revision), head, endpoint, repo, revision),
            )

    def set_base(self, job: str, base: str) -> None:
        """Record the head that a push is about to be made for; the first one stays."""
        with self._transaction() as db:
            db.execute("UPDATE jobs SET base = coalesce(base, ?) WHERE id = ?", (base, job))

    def pushed(self, job: str, receipt: Receipt) -> None:
        """Record that the commit is made; what follows it is still to be done."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET receipt = ?, pushed = (SELECT coalesce(max(pushed), 0) + 1 FROM jobs) WHERE id = ?",
                (encode_receipt(receipt), job),
            )

    def done(self, job: str, problem: str | None = None) -> None:
        """Record that all is done, but for a `problem` in what followed the push."""
        self._end(job, "done", problem, "")

    def follow_up(self, job: str) -> None:
        """Queue a job that is done once more, for what was measured after its push."""
        with self._transaction() as db:
            db.execute("UPDATE jobs SET state = 'queued', error = NULL WHERE id = ? AND state = 'done'", (job,))

    def failed(self, job: str, error: str, hint: str = "") -> None:
        """Record that it is of no use to try again."""
        self._end(job, "failed", error, hint)

    def again(self, job: str, error: HubError, next_try: float) -> None:
        """Record that it is to be tried again."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = 'queued', error = ?, hint = ?, next_try = ? WHERE id = ?",
                (error.message, error.hint, next_try, job),
            )

    # ── what a person does ──

    def retry(self, job: str, *, allow: Collection[str] = (), overwrite: bool = True) -> None:
        """Queue a job that failed; with `overwrite` it no longer minds what somebody else pushed meanwhile.

        Args:
            allow: More findings to pass over.
        """
        with self._transaction() as db:
            found = db.execute("SELECT ask FROM jobs WHERE id = ? AND state = 'failed'", (job,)).fetchone()
            if found is not None:
                self._require_newest(db, job)
                ask = decode_ask(found[0])
                db.execute(
                    "UPDATE jobs SET state = 'queued', error = NULL, hint = '', guarded = guarded AND NOT ?, ask = ? "
                    "WHERE id = ?",
                    (overwrite, ask.allowing(allow).encode(), job),
                )
                return
        raise self._refusal(job)

    def cancel(self, job: str) -> None:
        """Give up a job that is not being pushed."""
        with self._transaction() as db:
            done = db.execute(
                "UPDATE jobs SET state = 'cancelled', next_try = NULL WHERE id = ? AND state IN ('queued', 'failed')",
                (job,),
            )
            if done.rowcount:
                return
        raise self._refusal(job)

    def _require_newest(self, db: sqlite3.Connection, job: str) -> None:
        """Refuse what would put an older model over a newer one."""
        newer = db.execute(
            "SELECT other.id FROM jobs AS one, jobs AS other WHERE one.id = ? AND one.branch <> '' AND "
            "other.branch = one.branch AND other.seq > one.seq AND other.receipt IS NOT NULL "
            "AND json_extract(other.ask, ?) IS json_extract(one.ask, ?)",
            (job, _FOLDER, _FOLDER),
        ).fetchone()
        if newer is not None:
            raise InvalidInput(
                f"The job {job[:8]} is older than {newer[0][:8]}, which was pushed to that branch since; it is not "
                "pushed on top of that.",
                hint=f"Give it up with: {outbox_command(self.run, 'cancel', job[:8])}\n"
                f"If it is meant all the same, push it by hand; its files are in {self.pin(job)}",
            )

    def _beginning(self, beginning: str) -> list[Job]:
        with self._transaction(write=False) as db:  # 'g' comes after every digit of an id
            found = f"SELECT {_COLUMNS} FROM jobs WHERE id >= ? AND id < ? || 'g' LIMIT 2"
            return [self._job(row) for row in db.execute(found, (beginning, beginning))]

    def _refusal(self, job: str) -> InvalidInput:
        return InvalidInput(f"The job {job} is {self.job(job).state}; nothing was changed.")

    def _end(self, job: str, state: State, error: str | None, hint: str) -> None:
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, error = ?, hint = ?, next_try = NULL WHERE id = ?",
                (state, error, hint, job),
            )

    def _job(self, row: tuple[Any, ...]) -> Job:
        identity, state, text, created, tries, error, hint, next_try, receipt = row
        ask = decode_ask(text)
        target, retry = ask.request.target, outbox_command(self.run, "retry", identity[:8])
        return Job(
            id=identity, state=state, folder=Path(ask.folder), repo=target.repo, revision=target.revision,
            tag=target.tag, path_in_repo=target.path_in_repo, endpoint=target.endpoint, step=ask.step,
            metrics=ask.metrics, nbytes=ask.nbytes,
            created=created, tries=tries, error=error, hint=hint, retry_command=retry if state == "failed" else None,
            next_try=next_try, receipt=decode_receipt(receipt) if receipt else None,
        )  # fmt: skip

    def _transaction(self, *, write: bool = True) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self.folder, write=write, fill=self._recover)

    def _recover(self, db: sqlite3.Connection) -> None:
        """Queue what lies in files but not in the database, which was lost, or made just now."""
        known = {job for (job,) in db.execute("SELECT id FROM jobs")}
        for written in written_down(self.pin("")):
            if written.job not in known:
                insert(db, written)


def new_id() -> str:
    """An id that no other job of any outbox has."""
    return uuid.uuid4().hex
