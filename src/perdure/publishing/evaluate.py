"""Measure a published model with a well-known program, as a process of its own, and read what it found."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from perdure.errors import InvalidInput, MissingDependency, NotFound
from perdure.publishing.target import MAIN, check_repo, check_revision, endpoint_in_force

_MAX_OUTPUT = 2**30  # bytes; with many tasks these files are large


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tool:
    """A program that measures models.

    Attributes:
        program: Its name.
        package: What to install.
        words: Its arguments; `{repo}`, `{revision}`, `{tasks}` and `{output}` stand for what is asked.
    """

    program: str
    package: str
    words: tuple[str, ...]


TOOLS: Final = {
    # https://github.com/EleutherAI/lm-evaluation-harness, docs/interface.md
    "lm-eval": _Tool(
        program="lm_eval",
        package="lm_eval[hf]",
        words=(
            "--model", "hf", "--model_args", "pretrained={repo},revision={revision}", "--tasks", "{tasks}",
            "--output_path", "{output}",
        ),
    ),
    # https://huggingface.co/docs/lighteval
    "lighteval": _Tool(
        program="lighteval",
        package="lighteval[accelerate]",
        words=("accelerate", "model_name={repo},revision={revision}", "{tasks}", "--output-dir", "{output}"),
    ),
}  # fmt: skip


def evaluate(
    repo: str,
    tasks: str | Sequence[str],
    *,
    revision: str = MAIN,
    tool: str = "lm-eval",
    arguments: Sequence[str] = (),
    endpoint: str | None = None,
) -> dict[str, float]:
    """Measure a published model with lm-evaluation-harness or lighteval; what they print goes to standard error.

    The program is run without a shell and loads the model from the Hub by itself, so a private one needs `HF_TOKEN` or
    a login.

    Args:
        repo: `NAMESPACE/NAME`.
        tasks: Of that program, as a list or with commas.
        revision: The branch, tag or commit.
        tool: `lm-eval` or `lighteval`.
        arguments: More of the program's own arguments, such as `["--limit", "100"]`.
        endpoint: The Hub's address: by default `HF_ENDPOINT`, or huggingface.co.

    Returns:
        `TASK/METRIC` → value, without standard errors.

    Raises:
        InvalidInput: There is no such tool, or a name is wrong; or the program ended with an error.
        MissingDependency: The program is not installed.
        NotFound: It left no results.

    ```python
    found = perdure.evaluate("me/my-model", ["gsm8k"], revision="main-step-000000200", arguments=["--limit", "100"])
    perdure.record_results("me/my-model", found, revision="main-step-000000200")
    ```
    """
    if tool not in TOOLS:
        raise InvalidInput(f"{tool!r} is no tool that perdure can run.", hint=f"Choose one of: {', '.join(TOOLS)}")
    check_repo(repo)
    check_revision(revision)  # neither has a comma, which would begin another argument of the model
    names = tasks if isinstance(tasks, str) else ",".join(tasks)
    if not names or names.startswith("-"):
        raise InvalidInput(f"{names!r} names no task.", hint="Name one or more, for example: gsm8k,hellaswag")
    chosen, hub = TOOLS[tool], endpoint_in_force(endpoint)
    with tempfile.TemporaryDirectory(prefix="perdure-evaluate-") as output:
        asked = {"repo": repo, "revision": revision, "tasks": names, "output": output}
        command = [_program(chosen), *(word.format_map(asked) for word in chosen.words), *arguments]
        environment = {**os.environ, "HF_ENDPOINT": hub} if hub != endpoint_in_force(None) else None
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=environment, check=False)
        if done.returncode != 0:
            raise InvalidInput(
                f"{chosen.program} ended with {done.returncode}; what it printed says why.",
                hint=f"Its own help: {chosen.program} --help",
            )
        return _newest(Path(output), tool)


def _program(tool: _Tool) -> str:
    beside = Path(sys.executable).with_name(tool.program)  # the same environment, also where it is not activated
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(tool.program)
    if found is None:
        raise MissingDependency(
            f"{tool.program} is not installed.", hint=f"Install it with: pip install '{tool.package}'"
        )
    return found


def what_is_missing(command: Sequence[str]) -> str | None:
    """Why a command that is to follow pushes could not be run here; None if nothing is missing.

    >>> what_is_missing(["no-such-program", "--fast"])
    'no-such-program is not found.'
    """
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not found."
    if Path(command[0]).name == "perdure" and list(command[1:2]) == ["evaluate"]:
        try:
            for tool in command[2:3]:
                _program(TOOLS[tool])
        except KeyError:
            return None
        except MissingDependency as error:
            return f"{error.message} {error.hint}"
    return None


def _newest(folder: Path, tool: str) -> dict[str, float]:
    """The results in the last of the files that a tool wrote; both write one of the same shape."""
    files = [path for path in folder.rglob("results_*.json") if path.stat().st_size <= _MAX_OUTPUT]
    if not files:
        raise NotFound(f"{tool} left no results.")
    try:
        return flat(json.loads(max(files, key=lambda path: path.stat().st_mtime_ns).read_bytes()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotFound(f"What {tool} left are no results: {error}.") from error


def flat(document: Mapping[str, Any]) -> dict[str, float]:
    """`TASK/METRIC` → value, of such a file.

    >>> flat({"results": {"gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.5, "acc,none": 0.25,
    ...                             "acc_stderr,none": 0.01}}})
    {'gsm8k/exact_match,strict-match': 0.5, 'gsm8k/acc': 0.25}
    """
    return {
        f"{task}/{metric.removesuffix(',none')}": float(value)
        for task, metrics in document["results"].items()
        for metric, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not metric.partition(",")[0].endswith("_stderr") and metric != "sample_len"
    }
