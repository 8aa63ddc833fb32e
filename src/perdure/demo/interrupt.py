"""Kill a training run half way, and prove that the one which goes on from its checkpoints lost nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import perdure
from perdure.demo.folder import DemoFolder
from perdure.demo.train import Progress

_PATIENCE = 900  # seconds; on a slow machine two runs share a core


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A run that was killed and resumed, beside one that was left alone: every loss and all weights are the same.

    Attributes:
        killed_at: The last step that was done when SIGKILL came.
        resumed_from: The step of the checkpoint that the run went on from.
        losses: Step → loss, of either.
        weights: Digest of the weights of either.
    """

    killed_at: int
    resumed_from: int
    losses: Mapping[int, float]
    weights: str


class Undisturbed:
    """The same training in a process of its own, without checkpoints, while we go on."""

    def __init__(self, folder: DemoFolder, process: subprocess.Popen[str], said: Path) -> None:
        self._folder = folder
        self._process = process
        self._said = said

    def result(self) -> tuple[dict[int, float], str]:
        """Wait for its end; the loss of each step, and the digest of the weights.

        Raises:
            PerdureError: It failed.
        """
        if self._process.wait(_PATIENCE) != 0:
            raise _failed(self._folder, "The training to compare with failed")
        *steps, end = map(json.loads, self._said.read_text().splitlines())
        return {told["step"]: told["loss"] for told in steps}, end["weights"]


@contextmanager
def undisturbed(folder: DemoFolder, epochs: int) -> Iterator[Undisturbed]:
    """Train without interruption in the background; it does not outlive the block."""
    output = folder.caches / "uninterrupted"
    output.mkdir(parents=True)
    said = output / "losses.jsonl"
    with said.open("w") as stdout, _training(folder, output, epochs, stdout) as process:
        yield Undisturbed(folder, process, said)


def train_until_killed(folder: DemoFolder, epochs: int, progress: Progress) -> dict[int, float]:
    """Train with checkpoints in a process of its own, and send it SIGKILL when half of the steps are done.

    Returns:
        Step → loss, of all steps that it got to.

    Raises:
        PerdureError: It ended before it was killed.
    """
    seen: dict[int, float] = {}
    with _training(folder, folder.model, epochs, subprocess.PIPE, "--attach") as process:
        assert process.stdout is not None
        for told in map(json.loads, process.stdout):  # after the kill, what it had said by then
            if "loss" not in told:
                break
            seen[told["step"]] = told["loss"]
            if 2 * told["step"] >= told["steps"]:
                process.kill()
            else:
                progress(told["step"], told["steps"], told["loss"], told["left"])
        if process.wait(_PATIENCE) != -signal.SIGKILL:
            raise _failed(folder, "Training ended before it could be killed")
    return seen


def compare(
    killed: Mapping[int, float], resumed: Mapping[int, float], weights: str, other: Undisturbed
) -> dict[int, float]:
    """Compare what was seen until the kill, and the run that went on from there, with the one that was left alone.

    Returns:
        Step → loss, of either.

    Raises:
        Corrupt: They differ, if only in a bit.
        PerdureError: There is nothing to compare with.
    """
    expected, expected_weights = other.result()
    for half in (killed, resumed):
        for step, loss in half.items():
            if loss != expected[step]:
                raise perdure.Corrupt(f"The loss of step {step} is {loss!r}, and {expected[step]!r} without the kill.")
    if resumed.keys() != expected.keys() or weights != expected_weights:
        raise perdure.Corrupt("The run that was killed and resumed did not end where it would have without the kill.")
    return expected


@contextmanager
def _training(
    folder: DemoFolder, output: Path, epochs: int, stdout: int | IO[str], *options: str
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "perdure.demo.train", str(output.absolute()), str(epochs), *options]
    folder.caches.mkdir(exist_ok=True)
    with (
        _log(folder).open("a") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log, text=True) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def _log(folder: DemoFolder) -> Path:
    return folder.caches / "training.log"


def _failed(folder: DemoFolder, what: str) -> perdure.PerdureError:
    last = "\n".join(_log(folder).read_text(errors="replace").splitlines()[-5:])
    return perdure.PerdureError(
        f"{what}:\n{last}" if last else f"{what}.", hint=f"More of what it said: {_log(folder)}"
    )
