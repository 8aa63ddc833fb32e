"""`Checkpointer`: saves a run's state while it trains, and finds the newest whole one again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from perdure.checkpoint import catalog, ranks
from perdure.checkpoint.background import Save, StepGuard, now
from perdure.checkpoint.decision import decide, say
from perdure.checkpoint.fetch import fetch
from perdure.checkpoint.ledger import Ledger
from perdure.checkpoint.model import note_base
from perdure.checkpoint.options import check_options
from perdure.checkpoint.policy import Every, Keep, Retention, Schedule
from perdure.checkpoint.records import RestoreRecord, SaveRecord
from perdure.checkpoint.resume import restore_into
from perdure.checkpoint.signals import StopSignals
from perdure.checkpoint.snapshot import WRITER_BUDGET, Moment, check_modules, check_state, moment_of, take
from perdure.checkpoint.writer import Writer
from perdure.distributed import group as groups
from perdure.distributed.shared import check_shared
from perdure.errors import PerdureError, SaveFailed
from perdure.folder.paths import resolve
from perdure.state.staging import Spill, Staging
from perdure.state.state import State

T = TypeVar("T")
_log = logging.getLogger("perdure")


class Checkpointer:
    """The checkpoints of one run, in `folder/checkpoint-STEP`.

    `save` returns at once; bytes are written while training goes on, and the next optimizer step waits only for what
    has not been copied yet. A checkpoint gets its name when all of it is durable. SIGTERM and SIGUSR1 are noted: the
    next `save` writes a checkpoint and waits for it, and then `stop_requested` is true.

    Where processes train together (torch.distributed), each of them has a Checkpointer of the same folder, which all
    must see, and makes the same calls. Rank 0 writes; what differs from rank to rank is kept of each. A signal that
    one gets, and an error that one meets, is all ranks'.

    Args:
        folder: The run's folder; it need not exist.
        save: When a save is due; None leaves it to `save(…, force=True)`.
        keep: Which checkpoints stay; all of them, unless told otherwise.
        blocking: Write within `save`, so that nothing happens meanwhile.
        when_busy: What `save` does when the one before is not done: "wait" for it, or "skip" this one.
        memory: Bytes for what a step would have to wait for; what no optimizer changes is copied besides.
        tokenizer: A tokenizer or processor to put beside the model of each checkpoint.
        on_commit: Called on rank 0 with the record of each checkpoint that is in place, on the thread that wrote it:
            training goes on meanwhile, and nothing can rotate it away. What it raises is logged.

    Attributes:
        path: The run's folder, absolute.
        stop_requested: A signal came, and its checkpoint is durable: leave the loop.
        saves: A record of each save that was committed; rank 0 has them.
        restored: Where the run went on from.

    Raises:
        InvalidInput: An option is of another kind, or out of bounds; or `folder` is itself a checkpoint.

    Example:
        >>> with perdure.Checkpointer("runs/a", save=perdure.Every(steps=200)) as ckpt:  # doctest: +SKIP
        ...     for step in range(ckpt.restore(state), total):
        ...         train_step(step)
        ...         ckpt.save(step + 1, state, metrics={"loss": loss})
        ...         if ckpt.stop_requested:
        ...             break
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        save: Every | None = None,
        keep: Retention | None = None,
        blocking: bool = False,
        when_busy: Literal["wait", "skip"] = "wait",
        memory: int = 128 * 2**20,
        tokenizer: Any = None,
        on_commit: Callable[[SaveRecord], object] | None = None,
    ) -> None:
        self.path = resolve(Path(folder))
        check_options(self.path, save=save, keep=keep, when_busy=when_busy, memory=memory, tokenizer=tokenizer)
        self.stop_requested = False
        self.restored: RestoreRecord | None = None
        self._ledger = Ledger(self.path, keep or Keep(), on_commit)
        self.saves: list[SaveRecord] = self._ledger.saves
        self._schedule = Schedule(save)
        self._blocking, self._skips, self._tokenizer = blocking, when_busy == "skip", tokenizer
        self._spill = Spill(memory - WRITER_BUDGET)
        self._latest: int | None = None
        self._owed = False  # a save failed: the next call makes up for it
        self._group: groups.Group | None = None
        self._guard = StepGuard()
        self._writer = Writer(self.path)
        self._signals = StopSignals()

    def save(
        self,
        step: int,
        state: State,
        *,
        metrics: Mapping[str, float] | None = None,
        epoch: float | None = None,
        files: Mapping[str, bytes] | None = None,
        force: bool = False,
    ) -> bool:
        """Save if it is due, or forced, or a signal asks for it; call it when a step is complete.

        Until the next step, or `wait`, change nothing of the state yourself. What PyTorch counts (operations in place,
        also under `no_grad`) is noticed and fails the save; what it cannot see (through `.data` or `.numpy()`) is not.

        Args:
            step: How many steps are done.
            metrics: What `Keep(best=…)` and people choose by.
            epoch: How many epochs are done, with fractions.
            files: Small files to put beside the model, name → content; none that the checkpoint itself consists of.
            force: Save even if it is not due. Where this step was saved already, the new checkpoint takes the place of
                the old one once it is whole.

        Returns:
            Whether a save was begun.

        Raises:
            SaveFailed: The one before was not done, or this one where it blocks; older checkpoints are whole.
            InvalidInput: The state cannot be saved; or a later step was saved before; or another process is training in
                this folder; or it holds later checkpoints from which this run did not go on. Nothing was written.
        """
        self._guard.check_process()
        moments: list[Moment] = []

        def wish() -> dict[str, Any]:
            check_state(state)
            moments.append(moment_of(step, epoch, metrics))
            return self._wish(moments[0], force)

        said, (moment,) = self._agree(wish), moments
        decision = decide(said, latest=self._latest, stopping=self.stop_requested, skips=self._skips)
        if decision.begins:
            self._begin(moment, state, files or {})
        if decision.signal is not None:
            self.wait()
            self.stop_requested = True
            _log.warning("%s: the checkpoint of step %d is durable; stopping.", decision.signal, moment.step)
        return decision.begins

    def restore(self, state: State, source: str | None = None, *, step: int | None = None, strict: bool = True) -> int:
        """Put the newest whole checkpoint's state into the live objects of `state`, in place, verified.

        A damaged or uncommitted one is reported, and the next older is taken; `restored` says which, and why.

        Args:
            source: A checkpoint that was pushed with its training state, as "hf://me/model@revision". It becomes one
                of this folder; to prefer those: `ckpt.restore(state) or ckpt.restore(state, "hf://…")`.
            step: Of which step it is to be, and no other in its stead. `save` is refused until later ones are deleted.
            strict: Refuse a checkpoint in which something is missing, extra or different; otherwise take what fits.

        Returns:
            How many steps are done; 0 where there is no checkpoint.

        Raises:
            StateMismatch: The newest whole checkpoint is not of this run. Nothing was changed, unless the message says
                what: a newer one was found to be damaged while it was read, or a component refused its own state.
            Corrupt: There are checkpoints, and none can be used. What is in `state` may then be partly theirs.
            NotFound: There is none of this `step`, or no such revision.
            SaveFailed: The save under way was not done; older checkpoints are whole, and nothing was changed.
            InvalidInput: `state` is none that could have been saved, or `source` no revision.
            AlreadyExists, HubError: The checkpoint of `source` cannot be brought here; as for `pull`.
        """
        self._guard.check_process()
        self.wait()
        self.group.agree(lambda: check_modules(check_state(state)))
        if source is not None:
            self._claim(make=True)
            step = fetch(self.path, source, self.group, step=step)
        note_base(state.components.get("model"))
        record = restore_into(state, self.path, self.group, step=step, strict=strict, distrust=self.distrust)
        self._ledger.goes_on(step)
        if record is None:
            return 0
        self.restored, self._latest = record, record.step
        self._schedule.saved(record.step, record.epoch)
        _log.info("%s: restored %.2f GB in %.2f s", record.path, record.nbytes / 1e9, record.seconds)
        return record.step

    @property
    def stop_signal(self) -> str | None:
        """The signal that asks for a checkpoint and a stop, which the next `save` grants; None where none came."""
        return self._signals.received

    def distrust(self, path: Path) -> None:
        """Count a checkpoint as damaged from now on, so that no good one is deleted in its favour."""
        self._ledger.distrusted.add(path)

    def take_over(self) -> None:
        """Train here from now on, even where the folder holds later checkpoints, from which `restore` did not go on.

        The next `restore` takes those; to be called by who knows what is there, and restores by other means.

        Raises:
            InvalidInput: Another process is training in this folder.
        """
        self._claim(make=False)
        self._ledger.goes_on()

    def wait(self) -> None:
        """Return when the save under way is durable.

        Raises:
            SaveFailed: It was not done; older checkpoints are whole.
        """
        if self._guard.forked:
            return
        if self._guard.save is not None:
            self._guard.save.join()
        if self._group is not None:
            self._agree(self._guard.raise_failure)

    def close(self) -> None:
        """`wait`, and put back what was there before: signal handlers, hooks."""
        try:
            self.wait()
        finally:
            self._guard.close()
            self._signals.close()
            self._writer.release()
            self._ledger.end(scheduled=self._schedule.every is not None)
            self._leave_group()

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._group is not None:
            self._leave_group()
            self._group = groups.Group()  # whether others get here nobody knows: they are not waited for
        try:
            self.close()
        except PerdureError as failure:
            if error is None:
                raise
            _log.error("%s", failure)  # what ended the block matters more

    @property
    def group(self) -> groups.Group:
        """Who trains together, as of the first call that needs to know it, which every rank must make."""
        if self._group is None:
            group = groups.current()
            check_shared(self.path, group)
            self._group = group
        return self._group

    def _claim(self, *, make: bool) -> None:
        self.group.agree(lambda: self._writer.claim(make=make) if self.group.rank == 0 else None)

    def _leave_group(self) -> None:
        if self._group is not None and not self._guard.forked:
            self._group.close()
        self._group = None

    def _agree(self, work: Callable[[], T]) -> list[T]:
        """`work` of every rank; the failure of a save is everybody's, and made up for by everybody's next call."""
        try:
            return self.group.agree(work, error=SaveFailed)
        except SaveFailed:
            self._latest, self._owed = None, True
            raise

    def _wish(self, moment: Moment, force: bool) -> dict[str, Any]:
        """What this rank says at the end of a step."""
        self._guard.raise_failure()
        self._guard.check_open()
        if self.group.rank == 0:
            self._writer.claim(make=True)
            self._ledger.check_new(moment.step)
        due = self._owed or self._schedule.due(moment.step, moment.epoch)
        busy = self._guard.save is not None
        return say(step=moment.step, due=due, force=force, signal=self._signals.received, busy=busy)

    def _begin(self, moment: Moment, state: State, files: Mapping[str, bytes]) -> None:
        called, staging = now(), Staging(self._spill)
        self.wait()
        snapshot, blocks = ranks.take_together(
            self.group, self._agree, state, lambda: take(state, moment, staging, self._tokenizer, files), self._blocking
        )
        self._latest, self._owed = moment.step, False
        self._schedule.saved(moment.step, moment.epoch)
        if snapshot is not None:
            self._ledger.begun(moment)
            self._guard.watch(state)
            path = catalog.path_of(self.path, moment.step)
            self._guard.save = save = Save(snapshot, path, self._spill, self._ledger.committed, called=called)
            (save.finish if blocks else save.start)()
        if blocks:
            self.wait()
