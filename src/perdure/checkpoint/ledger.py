"""What became of a run's saves: what is recorded and told of each, and which older checkpoints it lets go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from perdure.checkpoint import catalog
from perdure.checkpoint.background import Save
from perdure.checkpoint.policy import Retention, unrated
from perdure.checkpoint.records import SaveRecord
from perdure.checkpoint.snapshot import Moment
from perdure.format.manifest import Manifest

_log = logging.getLogger("perdure")


class Ledger:
    """The saves of one run.

    Attributes:
        saves: A record of each that was committed.
        distrusted: Checkpoints that look whole, and are not.
    """

    def __init__(self, run: Path, keep: Retention, on_commit: Callable[[SaveRecord], object] | None = None) -> None:
        self.saves: list[SaveRecord] = []
        self.distrusted: set[Path] = set()
        self._run = run
        self._keep = keep
        self._on_commit = on_commit
        self._told: set[str] = set()
        self._calls = self._begun = 0
        self._settled = False  # whether this run may save with the checkpoints that are there
        self._chosen: int | None = None

    def goes_on(self, step: int | None = None) -> None:
        """The run goes on from what is there, or from its checkpoint of `step`, although there may be later ones."""
        self._settled, self._chosen = step is None, step

    def check_new(self, step: int) -> None:
        """`save` is called; refuse it where a later restore would go on from other checkpoints than this run's.

        Raises:
            InvalidInput: There are such.
        """
        self._calls += 1
        if not self._settled:
            catalog.check_new(self._run, step, self.distrusted, self._chosen)
        self._settled = True

    def begun(self, moment: Moment) -> None:
        """A save of this moment begins."""
        self._begun += 1
        self.warn_once(self._run, *unrated(self._keep, moment.metrics))

    def end(self, *, scheduled: bool) -> None:
        """The run is over; `scheduled` tells whether anything said when a save is due."""
        if self._calls and not self._begun and not scheduled:
            how = "pass save=perdure.Every(steps=200) to Checkpointer, or force=True to save"
            self.warn_once(self._run, f"save was called {self._calls} times, and none was due: {how}")

    def committed(self, save: Save, manifest: Manifest, told: list[str]) -> None:
        """A checkpoint is in place; called on the saving thread."""
        self.distrusted.discard(save.path)
        deleted = catalog.rotate(self._run, self._keep, save.snapshot.moment.step, self.distrusted)
        self.saves.append(record := save.record(manifest, deleted))
        self.warn_once(save.path, *told)
        _log.info(
            "%s: %.2f GB durable after %.2f s (%.2f GB/s); training waited %.0f ms",
            save.path, record.nbytes / 1e9, record.seconds, record.gigabytes_per_second, record.stalled_seconds * 1e3,
        )  # fmt: skip
        if self._on_commit is not None:
            try:
                self._on_commit(record)
            except Exception:  # the checkpoint is whole all the same
                _log.exception("%s is saved, but what was to follow that failed.", save.path)

    def warn_once(self, path: Path, *warnings: str) -> None:
        """Say what was not said of a checkpoint before."""
        for warning in warnings:
            if warning not in self._told:
                self._told.add(warning)
                _log.warning("%s: %s", path, warning)
