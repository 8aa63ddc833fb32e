"""One save under way, on a thread of its own, and what training must wait for."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.optim.optimizer import register_optimizer_step_pre_hook

from perdure.checkpoint.progress import progress
from perdure.checkpoint.records import SaveRecord
from perdure.checkpoint.snapshot import WRITER_BUDGET, Snapshot, write
from perdure.errors import InvalidInput, SaveFailed
from perdure.format.manifest import Manifest
from perdure.io.workers import Done
from perdure.state.staging import Spill
from perdure.state.state import State

_log = logging.getLogger("perdure")


class Save:
    """A snapshot being written; `error` is what came in between, once it is done.

    The thread is no daemon: an interpreter that is about to exit waits for it.

    Args:
        spill: Memory for what training cannot wait for; free again when the save is done.
        then: Called on the thread after the commit, with the manifest and what is worth telling.
        called: When training asked for it (`now`).

    Attributes:
        seconds: From then until it was committed.
        stalled: How many of them training waited.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        path: Path,
        spill: Spill,
        then: Callable[[Save, Manifest, list[str]], None],
        *,
        called: float,
    ) -> None:
        self.snapshot = snapshot
        self.path = path
        self.called = called
        self.seconds = 0.0
        self.stalled = 0.0
        self.error: BaseException | None = None
        self._spill = spill
        self._then = then
        self._in_background = False
        self._done = Done()
        self._begun = threading.Lock()  # taken by who does the work

    def start(self) -> None:
        """Begin to write; training goes on."""
        self._in_background = True
        self.stalled = now() - self.called
        self._launch()

    def finish(self) -> None:
        """Write all of it while training waits."""
        self._launch()
        self.join()

    def hold_back(self) -> None:
        """Return when live tensors may change; called by who is about to change them."""
        self.stalled += self.snapshot.staging.drain()

    @property
    def running(self) -> bool:
        """Whether it is not done yet."""
        return not self._done.wait(0)

    @property
    def failure(self) -> SaveFailed | None:
        """What came in between, as it is told."""
        if self.error is None or isinstance(self.error, SaveFailed):
            return self.error
        failure = SaveFailed(
            f"{self.path} was not saved: {type(self.error).__name__}: {self.error}. Older checkpoints are whole."
        )
        failure.__cause__ = self.error
        return failure

    def record(self, manifest: Manifest, deleted: tuple[Path, ...]) -> SaveRecord:
        """What it came to, once it is committed."""
        free_at = self.snapshot.staging.free_at
        return SaveRecord(
            step=self.snapshot.moment.step, path=self.path, nbytes=manifest.nbytes, seconds=self.seconds,
            staged_seconds=(free_at or self.called) - self.called, stalled_seconds=self.stalled, deleted=deleted,
        )  # fmt: skip

    def join(self) -> None:
        """Wait until it is done."""
        staging = self.snapshot.staging
        with progress(f"Saving {self.path.name}", self.snapshot.nbytes) as bar:
            while not self._done.wait(0.2):
                bar.show(staging.taken_bytes)

    def _launch(self) -> None:
        thread = threading.Thread(target=self._run, name=f"perdure-save-{self.snapshot.moment.step}")
        try:
            thread.start()
        except RuntimeError:  # no more threads: a limit, or the interpreter is on its way out
            self._run()
        except BaseException as error:  # an interruption, and nobody knows whether before the thread was there or after
            self._run(error)
            raise

    def _run(self, interruption: BaseException | None = None) -> None:
        if not self._begun.acquire(blocking=False):
            return
        staging = self.snapshot.staging
        try:
            if interruption is not None:
                raise interruption
            if self._in_background:
                staging.make_room()
                manifest, told = write(self.snapshot, self.path, threads=1)  # training needs the cores more than we do
            else:
                manifest, told = write(self.snapshot, self.path, memory=WRITER_BUDGET + self._spill.budget)
            self.seconds = now() - self.called
            if not self._in_background:
                self.stalled = self.seconds
            self._then(self, manifest, told)
        except BaseException as error:  # for whoever asks next; and told now, for the one who never asks
            self.error = error
            _log.error("%s", self.failure)
        finally:
            try:
                staging.stop()
                self._spill.clear()
            finally:
                self._done.set()


class StepGuard:
    """Has every optimizer's step, and every `load_state_dict` of a State's parts, wait for the save under way."""

    def __init__(self) -> None:
        self.save: Save | None = None
        self.closed = False
        self._process = os.getpid()
        self._guarded: weakref.WeakSet[Any] = weakref.WeakSet()
        # Of all optimizers, for one that is not in State may change the same parameters.
        self._handles: list[Any] = [register_optimizer_step_pre_hook(self._before)]

    def watch(self, state: State) -> None:
        """Watch the parts of `state` from now on."""
        parts: list[Any] = [part for _, part in (*state.modules(), *state.optimizers())]
        for part in parts:
            if part not in self._guarded:
                self._guarded.add(part)
                self._handles.append(part.register_load_state_dict_pre_hook(self._before))

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that saves: it has its memory, but none of its threads."""
        return os.getpid() != self._process

    def check_process(self) -> None:
        """Refuse in a process that was forked.

        Raises:
            InvalidInput: This is one.
        """
        if self.forked:
            raise InvalidInput(
                "This process was forked from the one that the Checkpointer is of; nothing was done.",
                hint="Save and restore there.",
            )

    def check_open(self) -> None:
        """Refuse when nothing would hold training back while a save is under way.

        Raises:
            InvalidInput: `close` was called.
        """
        if self.closed:
            raise InvalidInput("The Checkpointer is closed; nothing was written.", hint="Save within its `with` block.")

    def raise_failure(self) -> None:
        """Tell of a save that is done, and was not committed.

        Raises:
            SaveFailed: There is one; it is told once.
        """
        save = self.save
        if save is None or save.running:
            return
        self.save = None
        if (failure := save.failure) is not None:
            raise failure

    def close(self) -> None:
        """Watch no more."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.closed = True

    def _before(self, *args: object, **kwargs: object) -> None:
        if (save := self.save) is not None and not self.forked:
            save.hold_back()


def must_block(state: State) -> bool:
    """Whether nothing would tell us that the state is about to change, so that all must be written at once."""
    optimizers = dict(state.optimizers())
    foreign = any(hasattr(part, "param_groups") for name, part in state.components.items() if name not in optimizers)
    return foreign or (any(state.modules()) and not optimizers)


def now() -> float:
    """The clock of records."""
    return time.perf_counter()
