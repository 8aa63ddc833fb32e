"""Which checkpoint a run goes on from: the newest that can be used, and which had to be passed over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from perdure.checkpoint import catalog
from perdure.checkpoint.background import now
from perdure.checkpoint.catalog import CheckpointInfo
from perdure.checkpoint.progress import progress
from perdure.checkpoint.records import RestoreRecord, Skipped
from perdure.checkpoint.restore import restore_from
from perdure.distributed.group import Group
from perdure.errors import Corrupt, NotFound, UnsupportedFormat
from perdure.state.state import State

T = TypeVar("T")
_log = logging.getLogger("perdure")


class Unusable(Exception):
    """A checkpoint cannot be used, on any rank: the next older one is to be tried."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def damage_is_unusable() -> Iterator[None]:
    """Have an error that every rank meets in a checkpoint's files be an `Unusable`."""
    try:
        yield
    except (Corrupt, NotFound, UnsupportedFormat) as error:
        raise Unusable(error.message) from error


class Fallback:
    """A run's checkpoints, tried from the newest on until one can be used. Every rank makes the same calls.

    Args:
        distrust: Called with each that had to be passed over.
        hint: What to do where none can be used.
    """

    def __init__(self, run: Path, group: Group, *, distrust: Callable[[Path], None], hint: str) -> None:
        self.skipped: list[Skipped] = []
        self._run = run
        self._group = group
        self._distrust = distrust
        self._hint = hint
        self._outcome = "Nothing was changed."

    def candidates(self) -> list[CheckpointInfo]:
        """What rank 0 finds, newest first; of each its step, its state and its size."""

        def look() -> list[tuple[int, str, str, int]]:
            found = reversed(catalog.tidied(self._run)) if self._group.rank == 0 else ()
            return [(one.step, one.state, one.problem, one.nbytes) for one in found]

        return [
            CheckpointInfo(
                step=step, path=catalog.path_of(self._run, step), state=state, problem=problem, nbytes=nbytes
            )
            for step, state, problem, nbytes in self._group.agree(look)[0]
        ]

    def first(self, candidates: Sequence[CheckpointInfo], use: Callable[[CheckpointInfo], T]) -> T:
        """What `use` returns of the first of them for which it does not raise `Unusable`.

        Raises:
            Corrupt: There is none. The state may then be partly that of a damaged one, and the message says so.
        """
        for one in candidates:
            try:
                return use(one)
            except Unusable as unusable:
                _log.warning("%s is not usable: %s", one.path, unusable.reason)
                self.skipped.append(Skipped(path=one.path, reason=unusable.reason))
                self._distrust(one.path)
        newest = self.skipped[0]
        raise Corrupt(
            f"No checkpoint in {self._run} can be used ({len(self.skipped)} tried). "
            f"The newest: {newest.reason.rstrip('.')}. {self._outcome}",
            path=newest.path,
            hint=self._hint,
        )

    def restore_newest(self, state: State, *, strict: bool) -> RestoreRecord | None:
        """Restore the first that is whole; None where there is no checkpoint."""
        candidates = self.candidates()
        return self.first(candidates, lambda one: self._use(one, state, strict=strict)) if candidates else None

    def restore_step(self, step: int, state: State, *, strict: bool) -> RestoreRecord:
        """Restore that of one step, and no other in its stead.

        Raises:
            NotFound: There is none.
            Corrupt: It is damaged. The state may then be partly its, and the message says so.
        """
        candidates = self.candidates()
        for one in candidates:
            if one.step == step:
                return self.first([one], lambda one: self._use(one, state, strict=strict))
        there = ", ".join(str(one.step) for one in reversed(candidates)) or "none"
        raise NotFound(
            f"There is no checkpoint of step {step} in {self._run}. Nothing was changed.",
            hint=f"Of these steps there are: {there}",
        )

    def _use(self, one: CheckpointInfo, state: State, *, strict: bool) -> RestoreRecord:
        if one.state != "whole":
            raise Unusable(one.problem)
        return self.restore(one.path, state, strict=strict, nbytes=one.nbytes)

    def restore(self, path: Path, state: State, *, strict: bool, nbytes: int) -> RestoreRecord:
        """Put a checkpoint into `state`, as `restore_from` does.

        Args:
            nbytes: How much that is, for who waits at a terminal.

        Raises:
            Unusable: It is damaged.
            StateMismatch: It is not of this run.
        """
        started = now()
        with damage_is_unusable(), progress(f"Restoring {path.name}", nbytes) as bar:
            try:
                manifest = restore_from(
                    path, state, self._group, strict=strict, progress=bar.advance, outcome=self._outcome
                )
            except (Corrupt, NotFound, UnsupportedFormat):
                if bar.done:
                    self._outcome = f"The state is now partly that of {path.name}, which is damaged."
                raise
        return RestoreRecord(
            step=manifest.step or 0, path=path, epoch=manifest.epoch, nbytes=manifest.nbytes,
            seconds=now() - started, skipped=tuple(self.skipped),
        )  # fmt: skip


def restore_into(
    state: State, run: Path, group: Group, *, step: int | None, strict: bool, distrust: Callable[[Path], None]
) -> RestoreRecord | None:
    """What `Checkpointer.restore` does: the newest that can be used, or that of one step."""
    hint = (
        "To start from zero, name another folder."
        if step is None
        else "Restore another step, or the newest: leave step= out."
    )
    fallback = Fallback(run, group, distrust=distrust, hint=hint)
    if step is None:
        return fallback.restore_newest(state, strict=strict)
    return fallback.restore_step(step, state, strict=strict)
