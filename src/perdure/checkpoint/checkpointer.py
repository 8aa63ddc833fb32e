"""`Checkpointer`: saves a run's state while it trains, and finds the newest whole one again."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from perdure.checkpoint import catalog
from perdure.checkpoint.background import Barrier, Save, must_block, now
from perdure.checkpoint.model import note_base
from perdure.checkpoint.policy import Every, Keep, Retention, Schedule
from perdure.checkpoint.progress import progress
from perdure.checkpoint.records import RestoreRecord, SaveRecord, Skipped
from perdure.checkpoint.restore import restore_from
from perdure.checkpoint.signals import StopSignals
from perdure.checkpoint.snapshot import WRITER_BUDGET, Moment, take
from perdure.errors import Corrupt, InvalidInput, NotFound, PerdureError, SaveFailed, UnsupportedFormat
from perdure.folder.paths import resolve
from perdure.format.manifest import Manifest
from perdure.state.staging import Spill, Staging
from perdure.state.state import State

_log = logging.getLogger("perdure")


class Checkpointer:
    """The checkpoints of one run, in `folder/checkpoint-STEP`.

    `save` returns at once; bytes are written while training goes on, and the next optimizer step waits only for what
    has not been copied yet. A checkpoint gets its name when all of it is durable. SIGTERM and SIGUSR1 are noted: the
    next `save` writes a checkpoint and waits for it, and then `stop_requested` is true.

    Args:
        folder: The run's folder; it need not exist.
        save: When a save is due; None leaves it to `save(…, force=True)`.
        keep: Which checkpoints stay; all of them, unless told otherwise.
        blocking: Write within `save`, so that nothing happens meanwhile.
        when_busy: What `save` does when the one before is not done: "wait" for it, or "skip" this one.
        memory: Bytes that saving may take beside the state itself.
        tokenizer: A tokenizer or processor to put beside the model of each checkpoint.

    Attributes:
        path: The run's folder, absolute.
        stop_requested: A signal came, and its checkpoint is durable: leave the loop.
        saves: A record of each save that was committed.
        restored: Where the run went on from.

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
    ) -> None:
        if when_busy not in ("wait", "skip"):
            raise InvalidInput(f'when_busy={when_busy!r} is neither "wait" nor "skip".')
        if memory < WRITER_BUDGET:
            raise InvalidInput(f"memory={memory} is too little.", hint=f"Allow {WRITER_BUDGET} bytes at least.")
        self.path = resolve(Path(folder))
        self.stop_requested = False
        self.saves: list[SaveRecord] = []
        self.restored: RestoreRecord | None = None
        self._keep: Retention = keep or Keep()
        self._schedule = Schedule(save) if save else None
        self._blocking = blocking
        self._when_busy = when_busy
        self._tokenizer = tokenizer
        self._spill = Spill(memory - WRITER_BUDGET)
        self._latest: int | None = None
        self._owed = False  # a save failed: the next call makes up for it
        self._distrusted: set[Path] = set()
        self._told: set[str] = set()
        self._barrier = Barrier()
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
            files: Small files to put beside the model, name → content.
            force: Save even if it is not due.

        Returns:
            Whether a save was begun.

        Raises:
            SaveFailed: The one before was not done, or this one where it blocks; older checkpoints are whole.
            InvalidInput: The state cannot be saved as it is; nothing was written.
        """
        self._raise_failure()
        asked = self._signals.received is not None and not self.stop_requested
        moment = _moment(step, epoch, metrics)
        due = force or asked or self._owed or (self._schedule is not None and self._schedule.due(moment.step, epoch))
        begun = due and moment.step != self._latest and self._begin(moment, state, files or {}, must=force or asked)
        if asked:
            self.wait()
            self.stop_requested = True
            _log.warning("%s: the checkpoint of step %d is durable; stopping.", self._signals.received, moment.step)
        return begun

    def restore(self, state: State, *, strict: bool = True) -> int:
        """Put the newest whole checkpoint's state into the live objects of `state`, in place, verified.

        A damaged or uncommitted one is reported, and the next older is taken; `restored` says which, and why.

        Args:
            strict: Refuse a checkpoint in which something is missing, extra or different; otherwise take what fits.

        Returns:
            How many steps are done; 0 where there is no checkpoint.

        Raises:
            StateMismatch: The newest whole checkpoint is not of this run. Nothing was changed, unless a newer one was
                found to be damaged while it was read: the message says so.
            Corrupt: There are checkpoints, and none can be used. What is in `state` may then be partly theirs.
        """
        self.wait()
        note_base(state.components.get("model"))
        skipped: list[Skipped] = []
        outcome = "Nothing was changed."
        for info in reversed(self._checkpoints()):
            reason = info.problem
            if info.state == "whole":
                started = now()
                with progress(f"Restoring {info.path.name}", info.nbytes) as bar:
                    try:
                        manifest = restore_from(info.path, state, strict=strict, progress=bar.advance, outcome=outcome)
                    except (Corrupt, NotFound, UnsupportedFormat, OSError) as error:
                        reason = error.message if isinstance(error, PerdureError) else str(error)
                        if bar.done:
                            outcome = f"The state is now partly that of {info.path.name}, which is damaged."
                    else:
                        self.restored = RestoreRecord(
                            step=info.step, path=info.path, epoch=manifest.epoch, nbytes=manifest.nbytes,
                            seconds=now() - started, skipped=tuple(skipped),
                        )  # fmt: skip
                        self._went_on_from(self.restored)
                        return info.step
            _log.warning("%s is not usable: %s", info.path, reason)
            skipped.append(Skipped(path=info.path, reason=reason))
            self._distrusted.add(info.path)
        if skipped:
            raise Corrupt(
                f"None of the {len(skipped)} checkpoints in {self.path} can be used. The newest: {skipped[0].reason}",
                path=skipped[0].path,
                hint="To start from zero, name another folder. What is in the model now may be partly a damaged one's.",
            )
        return 0

    @property
    def stop_signal(self) -> str | None:
        """The signal that asks for a checkpoint and a stop, which the next `save` grants; None where none came."""
        return self._signals.received

    def distrust(self, path: Path) -> None:
        """Count a checkpoint as damaged from now on, so that no good one is deleted in its favour."""
        self._distrusted.add(path)

    def wait(self) -> None:
        """Return when the save under way is durable.

        Raises:
            SaveFailed: It was not done; older checkpoints are whole.
        """
        if self._barrier.save is not None:
            self._barrier.save.join()
        self._raise_failure()

    def close(self) -> None:
        """Wait for the save under way, and put back what was there before: signal handlers, hooks.

        Raises:
            SaveFailed: It was not done; older checkpoints are whole.
        """
        try:
            self.wait()
        finally:
            self._barrier.close()
            self._signals.close()

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except PerdureError as failure:
            if error is None:
                raise
            _log.error("%s", failure)  # what ended the block matters more

    def _begin(self, moment: Moment, state: State, files: Mapping[str, bytes], *, must: bool) -> bool:
        called = now()
        under_way = self._barrier.save
        if under_way is not None and under_way.running and self._when_busy == "skip" and not must:
            return False
        self.wait()
        staging = Staging(self._spill)
        snapshot = take(state, moment, staging, self._tokenizer, files)
        self._barrier.guard(state)
        path = catalog.path_of(self.path, moment.step)
        save = self._barrier.save = Save(snapshot, path, self._spill, self._committed, called=called)
        self._latest, self._owed = moment.step, False
        if self._schedule is not None:
            self._schedule.saved(moment.step, moment.epoch)
        if self._blocking or must_block(state):
            save.finish()
            self._raise_failure()
        else:
            save.start()
        return True

    def _committed(self, save: Save, manifest: Manifest, told: list[str]) -> None:
        """On the saving thread, when a checkpoint is in place."""
        seconds = now() - save.called
        self._distrusted.discard(save.path)
        deleted = self._make_room(save.snapshot.moment.step)
        free_at = save.snapshot.staging.free_at
        record = SaveRecord(
            step=save.snapshot.moment.step, path=save.path, nbytes=manifest.nbytes, seconds=seconds,
            staged_seconds=(free_at or save.called) - save.called, stalled_seconds=save.stalled or seconds,
            deleted=deleted,
        )  # fmt: skip
        self.saves.append(record)
        for warning in told:
            if warning not in self._told:
                self._told.add(warning)
                _log.warning("%s: %s", save.path, warning)
        _log.info(
            "%s: %.2f GB durable after %.2f s (%.2f GB/s); training waited %.0f ms",
            save.path, record.nbytes / 1e9, seconds, record.gigabytes_per_second, record.stalled_seconds * 1e3,
        )  # fmt: skip

    def _make_room(self, saved: int) -> tuple[Path, ...]:
        try:
            found = self._checkpoints()
        except (OSError, PerdureError) as error:  # the save is done all the same
            _log.warning("%s: old checkpoints could not be looked through: %s", self.path, error)
            return ()
        for one in found:
            if one.state == "damaged" and one.path not in self._distrusted:
                self._distrusted.add(one.path)
                _log.warning("%s is damaged, and stays until you delete it: %s", one.path, one.problem)
        whole = [one for one in found if one.state == "whole" and one.path not in self._distrusted]
        paths = [catalog.path_of(self.path, one.step) for one in self._keep.condemned(whole, saved)]
        return tuple(path for path in paths if catalog.delete(path))

    def _checkpoints(self) -> tuple[catalog.CheckpointInfo, ...]:
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError:
            pass  # there is something that cannot be looked at: not the same as nothing
        catalog.collect(self.path)
        return catalog.checkpoints(self.path)

    def _went_on_from(self, record: RestoreRecord) -> None:
        self._latest = record.step
        if self._schedule is not None:
            self._schedule.saved(record.step, record.epoch)
        _log.info("%s: restored %.2f GB in %.2f s", record.path, record.nbytes / 1e9, record.seconds)

    def _raise_failure(self) -> None:
        save = self._barrier.save
        if save is None or save.running:
            return
        self._barrier.save = None
        if save.error is not None:
            self._latest, self._owed = None, True
            if isinstance(save.error, SaveFailed):
                raise save.error
            raise SaveFailed(
                f"{save.path} was not saved: {type(save.error).__name__}: {save.error}. Older checkpoints are whole."
            ) from save.error


def _moment(step: int, epoch: float | None, metrics: Mapping[str, float] | None) -> Moment:
    try:
        count = operator.index(step)
        values = {str(name): float(value) for name, value in (metrics or {}).items()}
        passed = None if epoch is None else float(epoch)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"step, epoch and metrics are numbers: {error}; nothing was written.") from error
    if not 0 <= count < 10**18 or (passed is not None and not 0 <= passed < 2**63):
        raise InvalidInput(f"step {count} and epoch {passed} cannot be; nothing was written.")
    return Moment(step=count, epoch=passed, metrics=values)
