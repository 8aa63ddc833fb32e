"""What follows a push: a command line, told by its environment what was pushed where."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perdure.errors import InvalidInput
from perdure.publishing.receipt import Receipt

OUTPUT = "output.txt"
RESULTS = "results.json"
LIMIT_SECONDS = 3600.0
_MAX_RESULTS = 2**20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What came of a command.

    Attributes:
        results: Metric → number, as it wrote them.
        problem: Why it did not do what it should; None if it did.
    """

    results: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None


def words(command: str) -> list[str]:
    """A command line as the words that a shell would make of it.

    Raises:
        InvalidInput: It is none.
    """
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
) -> Followed:
    """Run a command line, without a shell, with what was pushed in its environment.

    It is told `PERDURE_REPO`, `PERDURE_REVISION`, `PERDURE_COMMIT`, `PERDURE_ENDPOINT`, `PERDURE_STEP` (empty where
    there is none), `PERDURE_METRICS` (JSON), and `PERDURE_RESULTS`: a path at which it may leave a JSON object of
    metric → number.

    Args:
        folder: Where its output and its results go; made if missing.
        limit: Seconds after which it is ended.

    Raises:
        InvalidInput: It is no command line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output, results = folder / OUTPUT, folder / RESULTS
    results.unlink(missing_ok=True)
    told = {
        "PERDURE_REPO": receipt.repo,
        "PERDURE_REVISION": receipt.revision,
        "PERDURE_COMMIT": receipt.commit,
        "PERDURE_ENDPOINT": receipt.endpoint,
        "PERDURE_STEP": "" if step is None else str(step),
        "PERDURE_METRICS": json.dumps(dict(metrics)),
        "PERDURE_RESULTS": str(results),
    }
    try:
        with output.open("wb") as file:
            done = subprocess.run(
                words(command), env={**os.environ, **told}, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, timeout=limit, check=False,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Followed(problem=f"`{command}` was ended after {limit:g} seconds; its output is in {output}.")
    except OSError as error:
        return Followed(problem=f"`{command}` could not be run: {error}.")
    if done.returncode != 0:
        return Followed(problem=f"`{command}` ended with {done.returncode}; its output is in {output}.")
    return _read(results, command)


def _read(path: Path, command: str) -> Followed:
    """The results, which a program wrote that is none of ours."""
    if not path.exists():
        return Followed()
    try:
        if path.stat().st_size > _MAX_RESULTS:
            raise ValueError("it is too large")
        results = {str(name): float(value) for name, value in dict(json.loads(path.read_bytes())).items()}
        if not all(map(math.isfinite, results.values())):
            raise ValueError("not every number is finite")
    except (OSError, ValueError, TypeError, RecursionError, OverflowError) as error:
        return Followed(problem=f"What `{command}` left in {path} is no JSON object of metric → number: {error}.")
    return Followed(results=results)
