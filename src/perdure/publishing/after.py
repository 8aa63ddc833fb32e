"""What follows a push: a command line, told by its environment what was pushed where, or a function."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from perdure.errors import InvalidInput
from perdure.format.hub_id import is_hub_id
from perdure.io.durable import fsync_folder, make_folders, write_file
from perdure.publishing import command_guard
from perdure.publishing.receipt import Receipt
from perdure.publishing.secrets import require_clean_words

OUTPUT = "output.txt"
RESULTS = "results.json"
DONE = "followed.json"
NOT_CALLED = "The function that was to follow the push was not called: its process has not come to it, or ended before."
LIMIT_SECONDS = 3600.0
_MAX_RESULTS = 2**20  # bytes


Results: TypeAlias = Mapping[str, "float | Mapping[str, float]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What came of a command, or of a function.

    Attributes:
        results: Metric → number, or a dataset's id → metric → number.
        problem: Why it did not do what it should; None if it did.
    """

    results: Results = field(default_factory=dict)
    problem: str | None = None

    def remember(self, folder: Path) -> None:
        """Write it down: whatever is tried again after this, the command is not."""
        make_folders(folder)
        text = json.dumps({"results": self.results, "problem": self.problem}).encode()
        write_file(folder / f"{DONE}.new", [text])
        (folder / f"{DONE}.new").replace(folder / DONE)
        fsync_folder(folder)


def remembered(folder: Path) -> Followed | None:
    """What `remember` wrote into a folder; None if nothing did."""
    try:
        return Followed(**json.loads((folder / DONE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def checked(results: object) -> Results:
    """What somebody says was measured, if it is that.

    Raises:
        TypeError, ValueError: It is not.
    """
    found: dict[str, float | Mapping[str, float]] = {}
    for name, value in dict(results).items():  # type: ignore[call-overload]
        if isinstance(value, Mapping):
            if not is_hub_id(name):
                raise ValueError(f"{name!r} is no dataset's id on the Hub")
            found[name] = {metric: _number(metric, number) for metric, number in value.items()}
        else:
            found[str(name)] = _number(name, value)
    return found


def _number(name: object, value: object) -> float:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{name!r} is no name of a metric")
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(f"not every number is finite: {name}")
    return number


def words(command: str) -> list[str]:
    """A command line as the words that a shell would make of it.

    Raises:
        InvalidInput: It is none.
        CheckFailed: There is a token or a password in it: it is written down, and told where it fails.
    """
    require_clean_words("command", command, hint="Let it read that from its environment, or from a file.")
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise InvalidInput(f"{command!r} is no command line: {error}.") from error
    if not found:
        raise InvalidInput("An empty command line cannot follow a push.")
    return found


def run(
    command: str,
    receipt: Receipt,
    *,
    step: int | None,
    metrics: Mapping[str, float],
    folder: Path,
    limit: float = LIMIT_SECONDS,
    leash: int = subprocess.PIPE,
) -> Followed | None:
    """Run a command line, without a shell, with what was pushed in its environment.

    It is told `PERDURE_REPO`, `PERDURE_REVISION`, `PERDURE_PATH_IN_REPO` (empty for the root), `PERDURE_COMMIT`,
    `PERDURE_ENDPOINT`, `PERDURE_STEP` (empty where there is none), `PERDURE_METRICS` (JSON), and `PERDURE_RESULTS`: a
    path at which it may leave a JSON object of metric → number, or of a dataset's id on the Hub → metric → number.

    When it ends, and where this process dies, all that it started ends with it, but for what left its process group.

    Args:
        folder: Where its output, the beginning and the end of it, and its results go; made if missing.
        limit: Seconds after which it is ended.
        leash: The end of a pipe to read from: it is ended at once when something is written there, or the other end
            is closed.

    Returns:
        None where the leash ended it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # whatever it prints, of its environment perhaps, is for who runs it alone
    output, results = folder / OUTPUT, folder / RESULTS
    results.unlink(missing_ok=True)
    told = {
        "PERDURE_REPO": receipt.repo,
        "PERDURE_REVISION": receipt.revision,
        "PERDURE_PATH_IN_REPO": receipt.path_in_repo,
        "PERDURE_COMMIT": receipt.commit,
        "PERDURE_ENDPOINT": receipt.endpoint,
        "PERDURE_STEP": "" if step is None else str(step),
        "PERDURE_METRICS": json.dumps(dict(metrics)),
        "PERDURE_RESULTS": str(results),
    }
    guard = [sys.executable, "-I", "-S", command_guard.__file__, str(limit), str(output), *shlex.split(command)]
    with subprocess.Popen(guard, env={**os.environ, **told}, stdin=leash, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read()
    try:
        came = json.loads(said)
    except ValueError:
        came = {"why": "it was killed"}
    if came.get("why") == command_guard.BROKEN_OFF:
        return None
    if came.get("why") == command_guard.LIMIT:
        return Followed(problem=f"`{command}` was ended after {limit:g} seconds; its output is in {output}.")
    if "why" in came:
        return Followed(problem=f"`{command}` could not be run: {came['why']}.")
    if came["code"] != 0:
        return Followed(problem=f"`{command}` ended with {came['code']}; its output is in {output}.")
    return _read(results, command)


def _read(path: Path, command: str) -> Followed:
    """The results, which a program wrote that is none of ours."""
    if not path.exists():
        return Followed()
    try:
        if path.stat().st_size > _MAX_RESULTS:
            raise ValueError("it is too large")
        results = checked(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError, OverflowError) as error:
        return Followed(problem=f"What `{command}` left in {path} is no JSON object of metric → number: {error}.")
    return Followed(results=results)
