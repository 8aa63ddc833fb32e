"""What a save or a restore came to: frozen facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveRecord:
    """One committed checkpoint.

    Attributes:
        nbytes: Of all its files but the manifest.
        seconds: From the call of `save` until it was durable and in place.
        staged_seconds: From the call until training was free to change the state.
        stalled_seconds: What training lost: in `save` itself, and in steps that had to wait.
        deleted: Checkpoints that went in its favour.
    """

    step: int
    path: Path
    nbytes: int
    seconds: float
    staged_seconds: float
    stalled_seconds: float
    deleted: tuple[Path, ...] = ()

    @property
    def gigabytes_per_second(self) -> float:
        """Durable bytes over time, in powers of ten."""
        return self.nbytes / self.seconds / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A checkpoint that could not be restored from, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRecord:
    """Where a run goes on from; `skipped` are newer checkpoints that could not be used."""

    step: int
    path: Path
    epoch: float | None
    nbytes: int
    seconds: float
    skipped: tuple[Skipped, ...] = ()
